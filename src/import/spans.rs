//! Lengths of time as resources can say them.

use crate::{
    api::types::{Interval, IntervalText, Span, SpanText},
    catalog::Age,
};

/// The largest number that the API takes for a span (`maximum` of its schema).
const LARGEST: i64 = 9_000_000_000_000_000_000;

/// The interval, longest unit first. `None` where no resource can say it: it is negative.
pub(super) fn interval_text(interval: Interval) -> Option<IntervalText> {
    let text = interval.to_string();
    if !text.contains('-') {
        return Some(IntervalText(text));
    }
    // Of mixed signs: what counts is how long it is.
    let whole = interval.plus(Interval::from_seconds(0));
    (whole.total_micros() >= 0 && whole == interval).then(|| IntervalText(whole.to_string()))
}

/// The span. `None` where no resource can say it: it is negative, or beyond what the API keeps.
pub(super) fn span_text(span: Span) -> Option<SpanText> {
    match span {
        Span::Integer(units) => (0..=LARGEST).contains(&units).then_some(SpanText::Integer(units)),
        Span::Time(interval) => interval_text(interval).map(|IntervalText(text)| SpanText::Interval(text)),
    }
}

/// The age as the two fields that can say it, `…After` and `…CreatedBefore`.
pub(super) fn age_texts(age: Age) -> Option<(Option<SpanText>, Option<IntervalText>)> {
    match age {
        Age::OlderThan(span) => span_text(span).map(|text| (Some(text), None)),
        Age::CreatedBefore(interval) => interval_text(interval).map(|text| (None, Some(text))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_said_is_told() {
        assert_eq!(interval_text("-1 days".parse().unwrap()), None);
        assert_eq!(interval_text("1 month -1 days".parse().unwrap()), Some("29 days".into()));
        assert_eq!(span_text(Span::Integer(i64::MAX)), None);
        assert_eq!(span_text(Span::Integer(-1)), None);
    }

    proptest! {
        #[test]
        fn what_is_said_is_read_back(months in -50..1200i32, days in -10_000..10_000i32, micros in -10_000_000_000_000..10_000_000_000_000i64) {
            let interval: Interval = format!("{months} months {days} days {micros} microseconds").parse().unwrap();
            match interval_text(interval) {
                Some(IntervalText(text)) => prop_assert_eq!(text.parse::<Interval>().unwrap(), interval),
                None => prop_assert!(interval.total_micros() < 0),
            }
        }
    }
}
