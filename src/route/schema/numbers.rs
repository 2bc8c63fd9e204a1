//! Paths of numbers: allowed without any descriptor, and held against one where there is one.

use prost_reflect::{Kind, MessageDescriptor};

use crate::message::path::{FieldPath, Step};

use super::{Leaf, Mend, NoPlace, Place, entry_value};

/// The place at the end of `path` in `message`. Our own descriptors are not whole, so what they do not know is unknown
/// and not wrong.
pub(super) fn place(message: Option<&MessageDescriptor>, path: FieldPath) -> Result<Place, NoPlace> {
    let mut here = message.cloned();
    let (mut leaf, mut is_repeated) = (Leaf::Unknown, message.is_none());
    for (at, step) in path.steps().iter().enumerate() {
        let is_last = at + 1 == path.steps().len();
        let (Step::Field(number) | Step::Entry { field: number, .. }) = step;
        let Some(field) = here.as_ref().and_then(|message| message.get_field(*number)) else {
            return Ok(Place { path, leaf: Leaf::Unknown, is_repeated: true });
        };
        let holder = match step {
            Step::Field(_) => field.clone(),
            Step::Entry { .. } => entry_value(&field).ok_or_else(|| NoPlace {
                right_steps: at,
                what: format!("field {number}, `{}`, is no map with text keys", field.name()),
                mend: Mend::Advice(format!("write {number} without the brackets")),
            })?,
        };
        is_repeated |= matches!(step, Step::Field(_)) && (field.is_list() || field.is_map());
        let kind = holder.kind();
        if is_last {
            leaf = Leaf::of(&kind, holder.is_list() && holder.is_packed(), &path);
            break;
        }
        here = match kind {
            Kind::Message(inner) => Some(inner),
            // Often it is a message that a program packs itself.
            Kind::Bytes => None,
            _ => {
                return Err(NoPlace {
                    right_steps: at + 1,
                    what: format!("nothing stands inside of field {number}, `{}`: it is no message", holder.name()),
                    mend: Mend::Advice(format!("end the path with {}", FieldPath::new(&path.steps()[..=at]))),
                });
            }
        };
    }
    Ok(Place { path, leaf, is_repeated })
}
