//! The diff of compression settings and policy.

use crate::{
    catalog::{Columnstore, Hypertable, SortColumn},
    desired::{Claim, CompressionTarget},
};

use super::{Draft, Planner, Step, Verdict, interlocks, not_by_time, step, step::Action};

impl Planner<'_> {
    pub(super) fn compression(&mut self, claim: &Claim, target: &CompressionTarget) -> Draft {
        let relation = &target.relation;
        let Some(live) = self.catalog.hypertables.get(relation) else {
            return Draft::blocked(Verdict::WaitingOn(format!(
                "{}: {relation} is not a hypertable yet",
                target.target
            )));
        };
        if let Some(refusal) = not_by_time(relation, live, "compressAfter") {
            return refusal;
        }
        let mut draft = Draft::default();
        if let Some((action, change)) = settings(target, live) {
            draft.steps.push(Step { after: self.after(relation), ..step(claim, action, change) });
        }
        self.job(claim, relation, live.id, &target.job, &mut draft);
        let windows = self.refresh_windows(live.id);
        draft.warnings.extend(interlocks::compression_warnings(&target.job.policy, &windows));
        draft
    }
}

/// The statement that brings the settings about, if one is needed, and what it changes.
fn settings(target: &CompressionTarget, live: &Hypertable) -> Option<(Action, String)> {
    let relation = &target.relation;
    let order_by = target.order_by.clone().map(|columns| with_time_column(columns, target, live));
    let (segment_by, order_by, change) = match &live.columnstore {
        None => (target.segment_by.clone(), order_by, format!("compression of {relation}: enabled")),
        Some(Columnstore { segment_by: found_segment, order_by: found_order }) => {
            let mut texts = Vec::new();
            let list = |columns: &[String]| {
                if columns.is_empty() { "none".to_owned() } else { columns.join(", ") }
            };
            let segment = target.segment_by.as_ref().filter(|wanted| found_segment.as_ref() != Some(*wanted));
            if let Some(wanted) = segment {
                let text = |names: &[crate::api::types::SqlName]| {
                    list(&names.iter().map(ToString::to_string).collect::<Vec<_>>())
                };
                let found = found_segment.as_ref().map_or_else(|| "TimescaleDB's choice".to_owned(), |f| text(f));
                texts.push(format!("segment by {found} -> {}", text(wanted)));
            }
            let order = order_by.as_ref().filter(|wanted| found_order.as_ref() != Some(*wanted));
            if let Some(wanted) = order {
                let text = |columns: &[SortColumn]| list(&columns.iter().map(ToString::to_string).collect::<Vec<_>>());
                let found = found_order.as_ref().map_or_else(|| "TimescaleDB's choice".to_owned(), |f| text(f));
                texts.push(format!("order by {found} -> {}", text(wanted)));
            }
            if texts.is_empty() {
                return None;
            }
            // Both are sent, so that the statement does not depend on what the server keeps of the other.
            let change = format!("compression of {relation}, for chunks compressed from now on: {}", texts.join(", "));
            (target.segment_by.clone(), order_by, change)
        }
    };
    Some((Action::SetCompression { relation: relation.clone(), segment_by, order_by }, change))
}

/// TimescaleDB appends the time column, descending, where `orderBy` lacks it; unless it is a segment-by column.
fn with_time_column(mut columns: Vec<SortColumn>, target: &CompressionTarget, live: &Hypertable) -> Vec<SortColumn> {
    let Some(time) = live.time() else {
        return columns;
    };
    let found = live.columnstore.as_ref().and_then(|c| c.segment_by.as_ref());
    let segmented = target.segment_by.as_ref().or(found).is_some_and(|names| names.contains(&time.column));
    if !segmented && !columns.iter().any(|c| c.column == time.column) {
        columns.push(SortColumn { column: time.column.clone(), descending: true, nulls_first: true });
    }
    columns
}
