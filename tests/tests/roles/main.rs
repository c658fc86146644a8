//! Other daemons in the roles that a fabric has for them: workers with kernel VXLAN, physical routers.

mod conventions;
mod foreign_reflector;
mod lab;
mod transport;
mod workers;
