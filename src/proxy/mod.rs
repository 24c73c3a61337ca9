//! HTTP: connections in, the request line, the collector behind it. It decides order and answers;
//! it never knows which authority or which limit store it talks to.

pub mod answer;
pub mod aside;
mod asking;
pub mod body;
mod charge;
pub mod client;
mod forward;
pub mod gateway;
pub mod grpc;
pub mod headers;
pub mod overload;
mod payload;
pub mod rejection;
pub mod route;
pub mod server;
pub mod service;
mod settings;
pub mod trust;
pub mod upstream;
