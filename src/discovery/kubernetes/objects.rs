//! What the Kubernetes API says of pods and of the slices of a service, and what it means for a pool.

use serde::Deserialize;

use super::{Kind, Port};
use crate::discovery::roster::{Seen, Standing};
use crate::pool::Endpoint;
use crate::pool::found::Found;

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Where a watch goes on, and the token of the next page.
    #[serde(default)]
    pub metadata: Metadata,
    /// `null` when there are none.
    #[serde(default)]
    pub items: Option<Vec<Object>>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The object as it is now; as it was, if it is gone; a status, if there was an error.
    pub object: serde_json::Value,
}

/// What a line of a watch is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EventKind {
    /// An object is there, or is selected from now on.
    Added,
    /// It is another than before.
    Modified,
    /// It is gone, or no longer selected.
    Deleted,
    /// Nothing happened up to this version.
    Bookmark,
    /// The watch ends.
    Error,
    /// What later versions of the API may say.
    #[serde(other)]
    Unknown,
}

/// The API's word for something that went wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    /// As of HTTP.
    pub code: u16,
    /// For people.
    pub message: String,
}

/// The fields every object has.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique among those of a kind in a namespace.
    pub name: String,
    /// How new it is; opaque.
    pub resource_version: String,
    /// Of a list: the token of the next page; empty on the last.
    #[serde(rename = "continue")]
    pub next_page: Option<String>,
    deletion_timestamp: Option<String>,
    labels: Option<Labels>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Labels {
    #[serde(rename = "topology.kubernetes.io/zone")]
    zone: Option<String>,
}

/// A pod or a slice: their fields have different names, and what is not there stays empty.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    /// Its name and version.
    pub metadata: Metadata,
    spec: Spec,
    status: PodStatus,
    endpoints: Option<Vec<SliceEndpoint>>,
    ports: Option<Vec<SlicePort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerPort {
    name: Option<String>,
    container_port: u16,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceEndpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<SliceConditions>,
    target_ref: Option<TargetRef>,
    zone: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct SliceConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SlicePort {
    name: Option<String>,
    port: Option<u16>,
}

// === impl Event ===

impl Event {
    /// The version its object is at.
    pub fn version(&self) -> Option<String> {
        let version = self.object.get("metadata")?.get("resourceVersion")?.as_str()?;
        Some(version.to_owned()).filter(|version| !version.is_empty())
    }
}

// === impl Object ===

impl Object {
    /// The object of a line.
    ///
    /// # Errors
    /// When its fields are not what they should be.
    pub fn of(event: &Event) -> serde_json::Result<Self> {
        Self::deserialize(&event.object)
    }

    /// The backends an object stands for: at most one of a pod, any number of a slice.
    ///
    /// # Errors
    /// When the port that is wanted is none of the object's: says which it has.
    pub fn backends(&self, kind: &Kind, port: &Port) -> Result<Vec<Seen>, String> {
        match kind {
            Kind::Pods { .. } => self.pod(port).map(|pod| pod.into_iter().collect()),
            Kind::EndpointSlices { .. } => self.slice(port),
        }
    }

    /// A pod that has an address.
    fn pod(&self, port: &Port) -> Result<Option<Seen>, String> {
        let Some(host) = self.status.pod_ip.as_deref().filter(|host| !host.is_empty()) else { return Ok(None) };
        let port = self.pod_port(port)?;
        let is_running = self.status.phase.as_deref() == Some("Running");
        let is_ready = |condition: &Condition| condition.kind == "Ready" && condition.status == "True";
        let standing = match &self.metadata.deletion_timestamp {
            Some(_) => Standing::Leaving,
            None if is_running && self.status.conditions.iter().flatten().any(is_ready) => Standing::Ready,
            None => Standing::Unready,
        };
        let zone = self.metadata.labels.as_ref().and_then(|labels| labels.zone.clone());
        Ok(Some(seen(&self.metadata.name, host, port, zone, standing)))
    }

    fn pod_port(&self, port: &Port) -> Result<u16, String> {
        let wanted = match port {
            Port::Number(number) => return Ok(*number),
            Port::Name(name) => Some(name.as_str()),
            Port::Only => None,
        };
        // Sidecars are among the init containers.
        let containers = self.spec.containers.iter().chain(&self.spec.init_containers).flatten();
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        let ports = ports.map(|port| (port.name.as_deref(), Some(port.container_port)));
        choose(wanted, ports).map_err(|why| format!("pod {} {why}", self.metadata.name))
    }

    fn slice(&self, port: &Port) -> Result<Vec<Seen>, String> {
        let Some(endpoints) = self.endpoints.as_ref().filter(|endpoints| !endpoints.is_empty()) else {
            return Ok(Vec::new());
        };
        let ports = self.ports.iter().flatten().map(|port| (port.name.as_deref(), port.port));
        let port = match port {
            Port::Number(number) => Ok(*number),
            Port::Name(name) => choose(Some(name), ports),
            Port::Only => choose(None, ports),
        };
        let port = port.map_err(|why| format!("endpoint slice {} {why}", self.metadata.name))?;
        Ok(endpoints.iter().filter_map(|endpoint| endpoint.backend(port)).collect())
    }
}

// === impl SliceEndpoint ===

impl SliceEndpoint {
    fn backend(&self, port: u16) -> Option<Seen> {
        // EndpointSlice, field `addresses`: consumers may use the first alone; they are all of one endpoint.
        let host = self.addresses.as_ref()?.first()?;
        // EndpointSlice, `conditions`: what is not said of `ready` means yes, of `serving` what `ready` says, of `terminating` no.
        let conditions = self.conditions.unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(is_ready);
        let standing = match (conditions.terminating.unwrap_or(false), is_ready, is_serving) {
            // One that no longer serves still has to be known as leaving, so that it is not kept as one of the last good ones.
            (true, _, _) => Standing::Leaving,
            (false, true, true) => Standing::Ready,
            (false, ..) => Standing::Unready,
        };
        let name = self.target_ref.as_ref().and_then(|target| target.name.as_ref()).unwrap_or(host);
        Some(seen(name, host, port, self.zone.clone(), standing))
    }
}

/// The port of this name, or the only one there is.
fn choose<'p>(
    wanted: Option<&str>,
    ports: impl Iterator<Item = (Option<&'p str>, Option<u16>)>,
) -> Result<u16, String> {
    let ports: Vec<_> = ports.filter_map(|(name, port)| Some((name.unwrap_or_default(), port?))).collect();
    match (wanted, ports.as_slice()) {
        (Some(wanted), ports) => ports.iter().find(|(name, _)| *name == wanted).map(|(_, port)| *port),
        (None, [(_, port)]) => Some(*port),
        (None, _) => None,
    }
    .ok_or_else(|| {
        let has = match ports.as_slice() {
            [] => "no port".to_owned(),
            ports => ports.iter().map(|(name, port)| format!("{name}:{port}")).collect::<Vec<_>>().join(", "),
        };
        match wanted {
            Some(wanted) => format!("has no port named `{wanted}`, it has {has}"),
            None => format!("has {has}: `port` must say which is meant"),
        }
    })
}

fn seen(name: &str, host: &str, port: u16, zone: Option<String>, standing: Standing) -> Seen {
    let name = if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
    let zone = zone.filter(|zone| !zone.is_empty());
    let found = Found::at(Endpoint { host: host.to_owned(), port });
    Seen { found: Found { name, zone, ..found }, standing }
}
