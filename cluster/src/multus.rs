//! Whether the cluster can have pods with further interfaces at all.
//!
//! Kubernetes itself gives a pod one. Multus reads the annotation that asks for more; where nobody does, the annotation is
//! not refused but ignored, and its author sees a pod that lacks an interface and no word about it. So the worker asks, and says
//! it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::Client;

/// API group and version of NetworkAttachmentDefinition.
const GROUP_VERSION: &str = "k8s.cni.cncf.io/v1";
/// What objects of that group are called in paths.
const DEFINITIONS: &str = "network-attachment-definitions";

/// What to say where [`definitions_served`] found none; the cure is in it.
pub const MISSING: &str = "Multus is missing: this cluster has no NetworkAttachmentDefinition (k8s.cni.cncf.io/v1), so the \
                           annotation k8s.v1.cni.cncf.io/networks of pods is ignored; install Multus, as with `kubectl apply \
                           -k deploy/components/multus`, or use a CNI configuration of your own";

/// Whether the API server serves NetworkAttachmentDefinitions, which come with Multus. Every service account may ask this.
///
/// # Errors
///
/// If the API server gave no answer; nothing is known then.
pub async fn definitions_served(client: &Client) -> kube::Result<bool> {
    verdict(client.list_api_group_resources(GROUP_VERSION).await)
}

fn verdict(answer: kube::Result<APIResourceList>) -> kube::Result<bool> {
    match answer {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == DEFINITIONS)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
    use kube::core::Status;

    use super::*;

    fn list(names: &[&str]) -> kube::Result<APIResourceList> {
        let resources = names.iter().map(|name| APIResource { name: (*name).to_owned(), ..APIResource::default() });
        Ok(APIResourceList { resources: resources.collect(), ..APIResourceList::default() })
    }

    fn refusal(code: u16) -> kube::Result<APIResourceList> {
        Err(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
    }

    #[test]
    fn only_an_answer_says_that_multus_is_missing() {
        for (answer, expected) in [
            (list(&["network-attachment-definitions"]), Some(true)),
            (list(&["ipamclaims", "network-attachment-definitions"]), Some(true)),
            (list(&["ipamclaims"]), Some(false)),
            (list(&[]), Some(false)),
            (refusal(404), Some(false)),
            (refusal(403), None),
            (refusal(503), None),
        ] {
            let name = format!("{answer:?}");
            assert_eq!(verdict(answer).ok(), expected, "{name}");
        }
    }
}
