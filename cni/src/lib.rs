//! The CNI protocol between the runtime's plugin and the worker speaker.
