//! Other daemons in the roles that a fabric has for them: workers with kernel VXLAN, physical routers.

mod conventions;
mod lab;
mod transport;
mod without_our_reflector;
mod workers;
