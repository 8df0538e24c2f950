//! Plan and apply for Kubernetes platforms: the facade that a command line or a server embeds.
