//! Which form of a page suits the client: `Accept`, RFC 9110 section 12.5.1.
use http::HeaderValue;

/// The form of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Html,
    /// RFC 9457.
    Problem,
}

impl Form {
    pub(super) const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Problem => "application/problem+json",
        })
    }
}

/// How well a form suits: quality in thousandths, how exactly its type is named, and the earlier named the better.
type Fit = (u16, u8, std::cmp::Reverse<usize>);

/// The form among `forms` that the client likes best; the first of them where it likes several alike, and where it
/// likes none.
pub(super) fn choose(accept: Option<&HeaderValue>, forms: &[Form]) -> Form {
    let mut best = (forms.first().copied().unwrap_or(Form::Text), (0, 0, std::cmp::Reverse(0)));
    if let Some(accept) = accept {
        for &form in forms {
            if let Some(fit) = fit(accept.as_bytes(), form)
                && fit.0 > 0
                && fit > best.1
            {
                best = (form, fit);
            }
        }
    }
    best.0
}

/// How the most exact range that names the form rates it.
fn fit(accept: &[u8], form: Form) -> Option<Fit> {
    let ranges = accept.split(|&byte| byte == b',').enumerate();
    let named = ranges.filter_map(|(place, range)| {
        let mut parts = range.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let exactness = exactness(parts.next()?, form)?;
        Some((exactness, quality(parts), place))
    });
    let (exactness, quality, place) = named.max_by_key(|(exactness, quality, _)| (*exactness, *quality))?;
    // Ranges that name several forms at once don't prefer the one named by an earlier range.
    let place = if exactness == 3 { place } else { usize::MAX };
    Some((quality, exactness, std::cmp::Reverse(place)))
}

/// 3: the type itself; 2: its main type; 1: everything.
fn exactness(range: &[u8], form: Form) -> Option<u8> {
    let (types, main): (&[&[u8]], &[u8]) = match form {
        Form::Text => (&[b"text/plain"], b"text/*"),
        Form::Html => (&[b"text/html", b"application/xhtml+xml"], b"text/*"),
        Form::Problem => (&[b"application/problem+json", b"application/json"], b"application/*"),
    };
    let is = |name: &[u8]| range.eq_ignore_ascii_case(name);
    if types.iter().any(|name| is(name)) {
        Some(3)
    } else if is(main) {
        Some(2)
    } else {
        is(b"*/*").then_some(1)
    }
}

/// Thousandths; a malformed weight counts as 1.
fn quality<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> u16 {
    let weight = parameters.find_map(|part| part.strip_prefix(b"q=").or_else(|| part.strip_prefix(b"Q=")));
    let Some(weight) = weight else { return 1000 };
    match weight {
        [b'0'] => 0,
        [b'0', b'.', digits @ ..] if digits.len() <= 3 && digits.iter().all(u8::is_ascii_digit) => {
            let digit = |at: usize| digits.get(at).map_or(0, |digit| u16::from(digit - b'0'));
            digit(0) * 100 + digit(1) * 10 + digit(2)
        }
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &'static str, expected: Form) {
        let value = HeaderValue::from_static(accept);
        assert_eq!(choose(Some(&value), &[Form::Text, Form::Html, Form::Problem]), expected, "{accept}");
    }

    #[test]
    fn each_client_gets_the_form_it_can_use() {
        check("*/*", Form::Text);
        check("", Form::Text);
        check("image/avif,image/webp", Form::Text);
        // Browsers, for pages and for images.
        check("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Form::Html);
        check("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", Form::Text);
        // Programs.
        check("application/json", Form::Problem);
        check("application/problem+json, application/json;q=0.9", Form::Problem);
        check("application/json, text/plain, */*", Form::Problem);
        check("text/plain, application/json", Form::Text);
        check("application/*", Form::Problem);
        check("text/*", Form::Text);
        check("TEXT/HTML", Form::Html);
        check("text/html;q=0.5, text/plain;q=0.4", Form::Html);
        check("text/html;q=0, */*", Form::Text);
        check("text/plain;q=0, */*", Form::Html);
        check("text/html;level=1;q=0.3, application/json;q=0.31", Form::Problem);
    }

    #[test]
    fn without_accept_it_is_text() {
        assert_eq!(choose(None, &[Form::Text, Form::Html]), Form::Text);
    }
}
