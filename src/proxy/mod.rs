//! HTTP: connections in, the request line, the collector behind it. It decides order and answers;
//! it never knows which authority or which limit store it talks to.

pub mod body;
pub mod gateway;
pub mod rejection;
pub mod server;
pub mod upstream;
