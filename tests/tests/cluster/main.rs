//! On a real Kubernetes cluster; Megalos in it is seen as its users see it, by kubectl.
//!
//! | module | subject |
//! | --- | --- |
//! | `bed` | the cluster itself |
//! | `first_lan`, `manifests` | what is installed, and the first LAN |
//! | `bad_input`, `many_pods`, `pods` | mistakes as their authors see them; many pods at once |
//! | `worker` | the worker's rights, bad addresses, a foreign VXLAN |
//! | `nodes` | many Nodes as peers of a reflector |
//! | `daemons`, `api_away` | workers, reflectors and the API server that die, are replaced, stay away |
//! | `node_life` | nodes that come, go, move and lose their power |
//! | `strangers` | who may speak to the reflectors, and for whom |
//! | `router` | a physical router on a LAN of pods |
//! | `segregation` | what never meets |
//! | `stage` | what the disturbances have in common: pods, traffic, exactness |

mod api_away;
mod bad_input;
mod bed;
mod daemons;
mod first_lan;
mod manifests;
mod many_pods;
mod node_life;
mod nodes;
mod pods;
mod router;
mod segregation;
mod stage;
mod strangers;
mod worker;
