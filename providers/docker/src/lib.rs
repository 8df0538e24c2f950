//! Networks, volumes, images, containers, registries and mirrors on a Docker Engine.
