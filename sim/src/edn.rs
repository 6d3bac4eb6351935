//! EDN, the notation of Clojure's data: a reader with the place of every form.
//!
//! [`Forms`] gives the forms of a text one after the other, so that a long file is never in memory as a tree. It takes
//! everything that <https://github.com/edn-format/edn> has: comments, discards (`#_`), commas as spaces, tags, numbers
//! with suffixes. What it cannot read is a [`Problem`] with its place; nothing panics, and how deep forms may lie in each
//! other is bounded, so that no text can exhaust the stack.

use std::fmt::Write;
use std::ops::Range;

use crate::scenario::tree::Problem;

/// Forms that lie deeper in others than this are refused: nothing that anybody writes by hand or by program comes near.
pub const DEEPEST: usize = 64;

/// A form and where it stands, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'t> {
    /// From its first byte to behind its last.
    pub span: Range<usize>,
    /// What it is.
    pub form: Form<'t>,
}

/// What a form is.
#[derive(Clone, Debug, PartialEq)]
pub enum Form<'t> {
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of 64 bits; the suffix `N` is allowed.
    Integer(i64),
    /// Any other number, as it stands.
    Number(&'t str),
    /// A string, escapes as they stand.
    Text(&'t str),
    /// `\c`, without the backslash.
    Character(&'t str),
    /// `:name`, without the colon.
    Keyword(&'t str),
    /// A symbol.
    Symbol(&'t str),
    /// `(…)`.
    List(Vec<Node<'t>>),
    /// `[…]`.
    Vector(Vec<Node<'t>>),
    /// `#{…}`.
    Set(Vec<Node<'t>>),
    /// `{…}`, in the order of the text.
    Map(Vec<(Node<'t>, Node<'t>)>),
    /// `#tag form`.
    Tagged(&'t str, Box<Node<'t>>),
}

impl Form<'_> {
    /// What stands there, for a refusal.
    pub fn describe(&self) -> String {
        match self {
            Form::Nil => "nil".to_owned(),
            Form::Bool(is) => is.to_string(),
            Form::Integer(number) => format!("the number {number}"),
            Form::Number(text) => format!("the number {}", clip(text)),
            Form::Text(text) => format!("the string \"{}\"", clip(text)),
            Form::Character(text) => format!("the character \\{}", clip(text)),
            Form::Keyword(name) => format!(":{}", clip(name)),
            Form::Symbol(name) => format!("the symbol {}", clip(name)),
            Form::List(_) => "a list".to_owned(),
            Form::Vector(all) => format!("a vector of {}", all.len()),
            Form::Set(_) => "a set".to_owned(),
            Form::Map(_) => "a map".to_owned(),
            Form::Tagged(tag, _) => format!("a form tagged #{}", clip(tag)),
        }
    }
}

/// The beginning of a text that may be long.
fn clip(text: &str) -> String {
    let mut clipped: String = text.chars().take(40).collect();
    if clipped.len() < text.len() {
        let _ = write!(clipped, "…");
    }
    clipped
}

/// The forms of a text.
#[derive(Clone, Debug)]
pub struct Forms<'t> {
    text: &'t str,
    at: usize,
    /// The brackets that are open around `at`.
    depth: usize,
}

/// What ends a collection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Text,
    Bracket(u8),
}

impl<'t> Forms<'t> {
    /// Of a text, from its beginning.
    pub fn new(text: &'t str) -> Forms<'t> {
        // What some editors put before the text is no form.
        let at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        Forms { text, at, depth: 0 }
    }

    /// The next form; `None` at the end of the text.
    pub fn next_form(&mut self) -> Result<Option<Node<'t>>, Problem> {
        self.form_before(End::Text)
    }

    /// If a vector begins here, goes into it: [`Forms::next_in_vector`] then gives what it holds.
    pub fn enter_vector(&mut self) -> bool {
        self.skip_space();
        let begins = self.byte() == Some(b'[');
        if begins {
            self.at += 1;
            self.depth += 1;
        }
        begins
    }

    /// The next form of the vector that was entered; `None` behind its end.
    pub fn next_in_vector(&mut self) -> Result<Option<Node<'t>>, Problem> {
        let next = self.form_before(End::Bracket(b']'))?;
        if next.is_none() {
            self.depth -= 1;
        }
        Ok(next)
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over spaces, commas and comments.
    fn skip_space(&mut self) {
        while let Some(byte) = self.byte() {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0c | b',' => self.at += 1,
                b';' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    /// The next form before what ends a collection, which is consumed if it comes first.
    fn form_before(&mut self, end: End) -> Result<Option<Node<'t>>, Problem> {
        loop {
            self.skip_space();
            let start = self.at;
            let Some(byte) = self.byte() else {
                return match end {
                    End::Text => Ok(None),
                    End::Bracket(close) => Err(Problem::new(
                        start..start,
                        format!("the text ends here, expected {}", char::from(close)),
                    )),
                };
            };
            if end == End::Bracket(byte) {
                self.at += 1;
                return Ok(None);
            }
            if self.text[self.at..].starts_with("#_") {
                self.at += 2;
                self.discard(start)?;
                continue;
            }
            return self.form(byte).map(Some);
        }
    }

    /// Passes over the form that a `#_` at `start` discards.
    fn discard(&mut self, start: usize) -> Result<(), Problem> {
        self.nested(start, |forms| match forms.form_before(End::Text)? {
            Some(_) => Ok(()),
            None => Err(Problem::new(start..start + 2, "#_ discards the form behind it, and none is there")),
        })
    }

    /// Does something one level deeper.
    fn nested<T>(
        &mut self,
        start: usize,
        inner: impl FnOnce(&mut Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        if self.depth >= DEEPEST {
            let text = format!("forms lie in each other more than {DEEPEST} deep here");
            return Err(Problem::new(start..start + 1, text));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// The form that begins here with `byte`.
    fn form(&mut self, byte: u8) -> Result<Node<'t>, Problem> {
        let start = self.at;
        let form = match byte {
            b'(' => Form::List(self.collection(1, b')')?),
            b'[' => Form::Vector(self.collection(1, b']')?),
            b'{' => self.map()?,
            b'#' => self.dispatch()?,
            b'"' => self.string()?,
            b'\\' => self.character()?,
            b')' | b']' | b'}' => {
                let text = format!("found {}, and nothing that it closes is open", char::from(byte));
                return Err(Problem::new(start..start + 1, text));
            }
            _ => self.atom()?,
        };
        Ok(Node { span: start..self.at, form })
    }

    /// What stands between brackets; the opening one is `open` bytes long.
    fn collection(&mut self, open: usize, close: u8) -> Result<Vec<Node<'t>>, Problem> {
        let start = self.at;
        self.at += open;
        self.nested(start, |forms| {
            let mut all = Vec::new();
            while let Some(node) =
                forms.form_before(End::Bracket(close)).map_err(|p| opened_at(p, forms.text, start))?
            {
                all.push(node);
            }
            Ok(all)
        })
    }

    fn map(&mut self) -> Result<Form<'t>, Problem> {
        let all = self.collection(1, b'}')?;
        let mut pairs = Vec::with_capacity(all.len() / 2);
        let mut all = all.into_iter();
        while let Some(key) = all.next() {
            let Some(value) = all.next() else {
                let text = format!("a map has a value for each key, and {} has none", key.form.describe());
                return Err(Problem::new(key.span, text));
            };
            pairs.push((key, value));
        }
        Ok(Form::Map(pairs))
    }

    /// What begins with `#`.
    fn dispatch(&mut self) -> Result<Form<'t>, Problem> {
        let start = self.at;
        match self.text.as_bytes().get(start + 1) {
            Some(b'{') => Ok(Form::Set(self.collection(2, b'}')?)),
            Some(b'#') => {
                self.at += 2;
                let name = self.token();
                match name {
                    "Inf" | "-Inf" | "NaN" => Ok(Form::Number(&self.text[start..self.at])),
                    _ => {
                        let text = format!("##{} is no number that EDN knows", clip(name));
                        Err(Problem::new(start..self.at, text))
                    }
                }
            }
            _ => {
                self.at += 1;
                let tag = self.token();
                if !tag.starts_with(|c: char| c.is_alphabetic()) {
                    let text = "found #, expected #{, #_, ## or a tag";
                    return Err(Problem::new(start..start + 1, text));
                }
                let inner = self.nested(start, |forms| forms.form_before(End::Text))?;
                let Some(inner) = inner else {
                    let text = format!("the tag #{} has no form behind it", clip(tag));
                    return Err(Problem::new(start..self.at, text));
                };
                Ok(Form::Tagged(tag, Box::new(inner)))
            }
        }
    }

    fn string(&mut self) -> Result<Form<'t>, Problem> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        loop {
            match bytes.get(at) {
                None => return Err(Problem::new(start..start + 1, "a string begins here and never ends")),
                Some(b'"') => break,
                Some(b'\\') => at += 2,
                Some(_) => at += 1,
            }
        }
        self.at = at + 1;
        Ok(Form::Text(&self.text[start + 1..at]))
    }

    fn character(&mut self) -> Result<Form<'t>, Problem> {
        let start = self.at;
        self.at += 1;
        let Some(first) = self.text[self.at..].chars().next().filter(|c| !c.is_whitespace()) else {
            return Err(Problem::new(start..start + 1, "found \\, expected a character behind it"));
        };
        self.at += first.len_utf8();
        if first.is_alphanumeric() {
            self.token();
        }
        Ok(Form::Character(&self.text[start + 1..self.at]))
    }

    /// The characters up to the next one that ends a word.
    fn token(&mut self) -> &'t str {
        let ends = |c: char| c.is_whitespace() || ",;\"()[]{}\\".contains(c);
        let rest = &self.text[self.at..];
        let token = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += token.len();
        token
    }

    /// A number, a keyword or a symbol.
    fn atom(&mut self) -> Result<Form<'t>, Problem> {
        let start = self.at;
        let token = self.token();
        if token.is_empty() {
            let found = self.text[start..].chars().next().map_or(String::new(), |c| c.to_string());
            let text = format!("found {found:?}, expected a form");
            return Err(Problem::new(start..start + found.len(), text));
        }
        if let Some(name) = token.strip_prefix(':') {
            return match name {
                "" => Err(Problem::new(start..self.at, "found :, expected a keyword such as :poll")),
                name => Ok(Form::Keyword(name)),
            };
        }
        let digits = token.strip_prefix(['+', '-']).unwrap_or(token);
        if digits.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number(start, token);
        }
        Ok(match token {
            "nil" => Form::Nil,
            "true" => Form::Bool(true),
            "false" => Form::Bool(false),
            symbol => Form::Symbol(symbol),
        })
    }

    fn number(&self, start: usize, token: &'t str) -> Result<Form<'t>, Problem> {
        let whole = token.strip_suffix('N').unwrap_or(token);
        let whole = whole.strip_prefix('+').unwrap_or(whole);
        if let Ok(number) = whole.parse::<i64>() {
            return Ok(Form::Integer(number));
        }
        let is_number = |c: char| c.is_ascii_digit() || "+-.eEMNxX/rR".contains(c) || c.is_ascii_hexdigit();
        if token.chars().all(is_number) {
            return Ok(Form::Number(token));
        }
        Err(Problem::new(start..self.at, format!("found {}, expected a number", clip(token))))
    }
}

/// Says of a bracket that is missing at the end of the text where its other half stands.
fn opened_at(problem: Problem, text: &str, start: usize) -> Problem {
    if problem.help.is_some() || problem.span.start < text.len() {
        return problem;
    }
    let line = text[..start].matches('\n').count() + 1;
    let open = text[start..].chars().next().unwrap_or(' ');
    problem.help(format!("{open} on line {line} is still open"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(text: &str) -> Form<'_> {
        let mut forms = Forms::new(text);
        let form = forms.next_form().unwrap().unwrap().form;
        assert_eq!(forms.next_form(), Ok(None), "{text}");
        form
    }

    #[test]
    fn every_kind_of_form_is_read() {
        for (text, form) in [
            ("nil", Form::Nil),
            (" ,true;c\n", Form::Bool(true)),
            ("-7", Form::Integer(-7)),
            ("+7N", Form::Integer(7)),
            ("9223372036854775807", Form::Integer(i64::MAX)),
            ("9223372036854775808", Form::Number("9223372036854775808")),
            ("1.5e3", Form::Number("1.5e3")),
            ("2/3", Form::Number("2/3")),
            ("##NaN", Form::Number("##NaN")),
            (r#""a \" b""#, Form::Text(r#"a \" b"#)),
            ("\\newline", Form::Character("newline")),
            ("\\(", Form::Character("(")),
            (":a/b", Form::Keyword("a/b")),
            ("->x", Form::Symbol("->x")),
            ("#_ #_ 1 2 ()", Form::List(vec![])),
            ("#{}", Form::Set(vec![])),
            ("{}", Form::Map(vec![])),
        ] {
            assert_eq!(one(text), form, "{text}");
        }
        let Form::Tagged("jepsen.history.Op", inner) = one("#jepsen.history.Op{:index 0}") else { panic!() };
        let Form::Map(pairs) = inner.form else { panic!() };
        assert_eq!(pairs[0].0, Node { span: 19..25, form: Form::Keyword("index") });
    }

    #[test]
    fn what_cannot_be_read_is_told_with_its_place() {
        for (text, span, told) in [
            ("[1 2", 4..4, "the text ends here, expected ]"),
            ("[1 }", 3..4, "found }, and nothing that it closes is open"),
            ("{:a}", 1..3, "a map has a value for each key, and :a has none"),
            ("\"abc", 0..1, "a string begins here and never ends"),
            ("12ab-?", 0..6, "found 12ab-?, expected a number"),
            ("##Nothing", 0..9, "##Nothing is no number that EDN knows"),
            ("#", 0..1, "found #, expected #{, #_, ## or a tag"),
            ("#inst", 0..5, "the tag #inst has no form behind it"),
            ("#_", 0..2, "#_ discards the form behind it, and none is there"),
            (":", 0..1, "found :, expected a keyword such as :poll"),
            ("\\", 0..1, "found \\, expected a character behind it"),
        ] {
            let problem = Forms::new(text).next_form().unwrap_err();
            assert_eq!((problem.span, problem.text.as_str()), (span, told), "{text}");
        }
        let problem = Forms::new("[\n{:a [1\n").next_form().unwrap_err();
        assert_eq!(problem.help.as_deref(), Some("[ on line 2 is still open"));
    }

    #[test]
    fn no_depth_exhausts_the_stack() {
        for open in ["[", "(", "{", "#{", "#_", "#t ", "{[", "#_ [#t "] {
            let problem = Forms::new(&open.repeat(100_000)).next_form().unwrap_err();
            assert!(problem.text.contains("more than 64 deep"), "{open}: {}", problem.text);
        }
        let text = format!("{}{}", "[".repeat(DEEPEST), "]".repeat(DEEPEST));
        assert!(Forms::new(&text).next_form().is_ok());
    }

    #[test]
    fn a_vector_is_read_element_by_element() {
        let mut forms = Forms::new("; c\n[1 [2]] 3");
        assert!(forms.enter_vector());
        assert_eq!(forms.next_in_vector().unwrap().unwrap().form, Form::Integer(1));
        assert!(matches!(forms.next_in_vector().unwrap().unwrap().form, Form::Vector(_)));
        assert_eq!(forms.next_in_vector(), Ok(None));
        assert_eq!(forms.next_form().unwrap().unwrap().form, Form::Integer(3));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[ \[\]{}()#_:;"\\0-9a-zN.+-/,é\n]{0,60}"#) {
            let mut forms = Forms::new(&text);
            let entered = forms.enter_vector();
            loop {
                let next = if entered { forms.next_in_vector() } else { forms.next_form() };
                match next {
                    Ok(Some(node)) => prop_assert!(text.get(node.span).is_some()),
                    Ok(None) => break,
                    Err(problem) => {
                        prop_assert!(text.get(problem.span).is_some());
                        break;
                    }
                }
            }
        }
    }
}
