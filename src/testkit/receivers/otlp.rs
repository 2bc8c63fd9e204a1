//! The receivers of OTLP: spans and log records stand for themselves once their wrappers are known, a resource's metrics are a set.
//!
//! One thing OAP does is left out: a scope's name stays in the tags of the resource and so gets onto spans of later
//! scopes that have none (PROTOCOLS 5, 15). A request that is cut loses that, and nobody misses it.

use super::Thrown;
use super::clerk::{Clerk, id_at};
use super::reading::{digest_of_rest, elements, has, part, text, text_at};
use crate::message::field::Malformed;
use crate::testkit::attribution::digest;
use crate::testkit::methods::Path;
use crate::testkit::tally::SourceId;
use crate::wire::grpc::Code;

/// Which of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans; a resource that names no service is dropped, and what follows a span without ids in its resource, too.
    Traces,
    /// Each resource's metrics are one set; a metric without data ends the call.
    Metrics,
    /// Log records; a resource that names no service is dropped.
    Logs,
}

/// Who produced a resource's data.
struct Resource {
    service: Vec<u8>,
    instance: Vec<u8>,
    /// Where test traffic puts its id.
    id: Vec<u8>,
    /// Digest of the resource to the byte.
    digest: u64,
}

/// Fields of the request, a resource's wrapper and a scope's wrapper: all three count them alike.
const RESOURCES: u32 = 1;
const RESOURCE: u32 = 1;
const SCOPES: u32 = 2;
const SCOPE: u32 = 1;
const ITEMS: u32 = 2;
/// gauge, sum, histogram, exponential_histogram, summary.
const METRIC_DATA: [u32; 5] = [5, 7, 9, 10, 11];
/// What names a service, best first.
const SERVICE: [&[u8]; 4] = [b"service.name", b"faas.name", b"k8s.deployment.name", b"process.executable.name"];
const INSTANCE: [&[u8]; 2] = [b"service.instance.id", b"service.instance"];

impl Signal {
    /// One request.
    pub(super) fn request(self, body: &[u8], clerk: &mut Clerk<'_>) -> Result<(), Thrown> {
        // What the request says beside its resources belongs to each of them.
        let around = digest_of_rest(body, &[RESOURCES])?.unwrap_or(0);
        for wrapper in elements(body, RESOURCES) {
            let wrapper = wrapper?;
            let resource = Resource::read(&part(wrapper, RESOURCE)?.unwrap_or_default())?;
            if resource.service.is_empty() && self != Signal::Metrics {
                clerk.discard("no service", 1);
                continue;
            }
            let metrics = if self == Signal::Metrics { Some(metrics_in(wrapper)?) } else { None };
            let source = clerk.source(&resource.service, &resource.instance);
            clerk.count(source, 1, wrapper.len());
            if clerk.records() && !resource.id.is_empty() {
                clerk.tally.record(clerk.id, source, &resource.id);
            }
            let context = digest2(around, resource.digest);
            match metrics {
                Some(metrics) => set(metrics, wrapper, source, context, clerk)?,
                // Read even where nothing is attributed: what is broken in there ends the call.
                None => self.items(wrapper, source, context, clerk)?,
            }
        }
        Ok(())
    }

    /// Each span or record of a resource, with all that is said around it.
    fn items(self, wrapper: &[u8], source: SourceId, context: u64, clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
        let around = digest_of_rest(wrapper, &[RESOURCE, SCOPES])?.unwrap_or(0);
        for scope in elements(wrapper, SCOPES) {
            let scope = scope?;
            let said = part(scope, SCOPE)?.unwrap_or_default();
            let beside = digest_of_rest(scope, &[SCOPE, ITEMS])?.unwrap_or(0);
            let context = digest2(digest2(context, around), digest2(digest([&said[..]]), beside));
            for item in elements(scope, ITEMS) {
                let item = item?;
                if self == Signal::Traces && (text(item, 1)?.is_empty() || text(item, 2)?.is_empty()) {
                    clerk.discard("behind a span without ids", 1);
                    return Ok(());
                }
                if clerk.attributes() {
                    clerk.attribute(source, context, id_at(item, self.name_path()), digest([item]));
                }
            }
        }
        Ok(())
    }

    /// What a person would call an item.
    fn name_path(self) -> Path {
        match self {
            Signal::Traces => &[5],
            Signal::Logs => &[5, 1],
            Signal::Metrics => &[],
        }
    }
}

/// How many metrics a resource has; none of them counts if one has no data.
fn metrics_in(wrapper: &[u8]) -> Result<usize, Thrown> {
    let mut metrics = 0;
    for scope in elements(wrapper, SCOPES) {
        for metric in elements(scope?, ITEMS) {
            if !has(metric?, &METRIC_DATA) {
                return Err(Thrown::status(Code::Unknown, "a metric without data"));
            }
            metrics += 1;
        }
    }
    Ok(metrics)
}

/// All metrics of one resource: rules see them together or not at all.
fn set(metrics: usize, wrapper: &[u8], source: SourceId, context: u64, clerk: &mut Clerk<'_>) -> Result<(), Malformed> {
    if clerk.attributes()
        && let Some(digest) = digest_of_rest(wrapper, &[RESOURCE])?
    {
        clerk.attribute(source, context, format!("{metrics} metrics").as_bytes(), digest);
    }
    Ok(())
}

fn digest2(one: u64, other: u64) -> u64 {
    digest([&one.to_le_bytes()[..], &other.to_le_bytes()])
}

// === impl Resource ===

impl Resource {
    fn read(said: &[u8]) -> Result<Self, Malformed> {
        let mut names: [Vec<u8>; SERVICE.len()] = Default::default();
        let mut instances: [Vec<u8>; INSTANCE.len()] = Default::default();
        let mut id = Vec::new();
        for attribute in elements(said, 1) {
            let attribute = attribute?;
            let key = text(attribute, 1)?;
            let value = text_at(attribute, &[2, 1])?;
            if let Some(at) = SERVICE.iter().position(|name| *name == key) {
                names[at] = value.into_owned();
            } else if let Some(at) = INSTANCE.iter().position(|name| *name == key) {
                instances[at] = value.into_owned();
            } else if key == b"switchyard.id" {
                id = value.into_owned();
            }
        }
        let first = |found: &[Vec<u8>]| found.iter().find(|name| !name.is_empty()).cloned().unwrap_or_default();
        Ok(Self { service: first(&names), instance: first(&instances), id, digest: digest([said]) })
    }
}
