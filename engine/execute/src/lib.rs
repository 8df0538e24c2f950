//! Dispatch of a plan with a durable intent before every call.
