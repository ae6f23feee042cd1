//! From the body of a batch to its elements, without reading what is in them: one that is malformed fails alone.

use common::wire::InvalidJson;
use serde_json::value::RawValue;

use crate::error::Refusal;

/// How a batch is written; its answer is written the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON array.
    Array,
    /// One JSON object a line.
    Lines,
}

/// The form of a body: what its media type declares, else by the first character.
///
/// # Errors
/// It is neither, or not the one that was declared.
pub(crate) fn form_of(body: &[u8], declared: Option<Form>) -> Result<Form, Refusal> {
    if declared == Some(Form::Lines) {
        return Ok(Form::Lines);
    }
    match body.trim_ascii_start().first() {
        Some(b'{') if declared == Some(Form::Array) => {
            Err(malformed("a JSON array of payments; one a line is application/x-ndjson".to_owned()))
        }
        Some(b'[') => Ok(Form::Array),
        Some(b'{') => Ok(Form::Lines),
        _ => Err(malformed("a JSON array of payments, or one payment a line".to_owned())),
    }
}

/// The elements of a batch in order, at most `max`.
///
/// # Errors
/// The body is no array, or has too many elements.
pub(crate) fn split(body: &[u8], form: Form, max: usize) -> Result<Vec<&[u8]>, Refusal> {
    let elements: Vec<&[u8]> = match form {
        Form::Array => serde_json::from_slice::<Vec<&RawValue>>(body)
            .map_err(|error| malformed(error.to_string()))?
            .into_iter()
            .map(|element| element.get().as_bytes())
            .collect(),
        Form::Lines => body
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty())
            .collect(),
    };
    if elements.len() > max {
        let detail = format!("{} payments, the limit is {max} (batch_max)", elements.len());
        return Err(Refusal::TooLarge { detail });
    }
    Ok(elements)
}

/// As the handler of a batch takes a body apart; `None` where it refuses it. For the fuzz targets.
#[doc(hidden)]
pub fn split_batch(body: &[u8], media_type_is_lines: bool, max: usize) -> Option<Vec<&[u8]>> {
    let form = form_of(body, media_type_is_lines.then_some(Form::Lines)).ok()?;
    split(body, form, max).ok()
}

fn malformed(expected: String) -> Refusal {
    Refusal::Malformed(InvalidJson { field: None, expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::problem::Code;

    fn texts(body: &str, form: Form) -> Result<Vec<String>, Code> {
        let elements = split(body.as_bytes(), form, 3).map_err(|refusal| refusal.code())?;
        Ok(elements.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect())
    }

    #[test]
    fn the_form_is_what_the_media_type_or_the_first_character_says() {
        let form_of = |body, declared| form_of(body, declared).map_err(|refusal| refusal.code());
        assert_eq!(form_of(b" \n[1]", None), Ok(Form::Array));
        assert_eq!(form_of(b"\t{}", None), Ok(Form::Lines));
        assert_eq!(form_of(b"[1]", Some(Form::Lines)), Ok(Form::Lines));
        assert_eq!(form_of(b"", Some(Form::Lines)), Ok(Form::Lines));
        assert_eq!(form_of(b"[1]", Some(Form::Array)), Ok(Form::Array));
        assert_eq!(form_of(b"{}", Some(Form::Array)), Err(Code::Malformed), "not what it says it is");
        for neither in [&b""[..], b"  ", b"5", b"null"] {
            assert_eq!(form_of(neither, None), Err(Code::Malformed));
        }
    }

    #[test]
    fn elements_come_apart_whatever_is_in_them() {
        let array = texts(r#"[{"a":1}, "x" , [2]]"#, Form::Array);
        assert_eq!(array, Ok(vec![r#"{"a":1}"#.to_owned(), r#""x""#.to_owned(), "[2]".to_owned()]));
        let lines = texts("{\"a\":1}\r\n\n  oops\n", Form::Lines);
        assert_eq!(lines, Ok(vec![r#"{"a":1}"#.to_owned(), "oops".to_owned()]));
        assert_eq!(texts("[]", Form::Array), Ok(vec![]));
        assert_eq!(texts("", Form::Lines), Ok(vec![]));
    }

    #[test]
    fn a_batch_that_cannot_be_split_fails_as_a_whole() {
        for broken in ["[1,", "[1] 2", "{}", "[1 2]"] {
            assert_eq!(texts(broken, Form::Array), Err(Code::Malformed), "{broken}");
        }
    }

    #[test]
    fn a_batch_over_the_limit_names_it() {
        assert_eq!(texts("[1,2,3,4]", Form::Array), Err(Code::PayloadTooLarge));
        let refusal = split(b"1\n2\n3\n4", Form::Lines, 3).expect_err("four");
        assert!(refusal.to_string().contains("limit is 3"), "{refusal}");
    }
}
