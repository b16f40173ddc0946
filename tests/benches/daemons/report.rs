//! What came out, as lines of text while it runs and as rows of a Markdown table at the end.

use crate::table::{Contender, Row, Wanted};

/// A contender's figures of one row, round by round.
pub(crate) type Figures = (Contender, Vec<f64>);

/// Everything printed so far that a later line needs.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Our medians, by row.
    ours: Vec<(&'static str, f64)>,
    missed: usize,
    markdown: Vec<String>,
}

impl Report {
    /// Prints one row of a measurement.
    pub(crate) fn row(&mut self, title: &str, row: &Row, figures: &[Figures]) {
        let Row(name, wanted) = *row;
        let verdicts: Vec<String> = wanted.iter().map(|it| self.verdict(*it, figures)).collect();
        let spreads =
            figures.iter().map(|(who, values)| format!("{} {}", who.name(), spread(values)));
        let mut words: Vec<String> = spreads.collect();
        words.extend(
            ratios(figures).map(|(who, ratio)| format!("of {} {}", who.name(), short(ratio))),
        );
        words.extend_from_slice(&verdicts);
        println!("  {name:<36}  {}", words.join("  "));
        self.markdown.push(markdown_row(title, row, figures, &verdicts));
        if let Some(ours) = values(figures, Contender::is_ours) {
            self.ours.push((name, median(ours)));
        }
    }

    /// Our medians that are not as wanted.
    pub(crate) fn missed(&self) -> usize {
        self.missed
    }

    /// Prints all rows as a table; bold is where libvirt's daemon is ahead.
    pub(crate) fn print_markdown(&self) {
        println!("\n| | libvirt | here | ratio | others | wanted |");
        println!("| --- | --- | --- | --- | --- | --- |");
        self.markdown.iter().for_each(|row| println!("{row}"));
    }

    /// Whether our median is as wanted, in words; without the other figure nobody can say.
    fn verdict(&mut self, wanted: Wanted, figures: &[Figures]) -> String {
        let Some(ours) = values(figures, Contender::is_ours) else { return String::new() };
        let to = |other: Option<&[f64]>| other.map(|other| median_ratio(ours, other));
        let to_theirs = || to(values(figures, Contender::is_theirs));
        let to_peer = || to(values(figures, Contender::is_peer));
        let to_row = |name| {
            let earlier = self.ours.iter().find(|(row, _)| *row == name);
            earlier.map(|(_, earlier)| median(ours) / earlier)
        };
        let (sign, bound, unit, figure) = match wanted {
            Wanted::Max(max) => ("<=", max, "", Some(median(ours))),
            Wanted::Min(min) => (">=", min, "", Some(median(ours))),
            Wanted::MaxTimesTheirs(max) => ("<=", max, " of C", to_theirs()),
            Wanted::MinTimesTheirs(min) => (">=", min, " of C", to_theirs()),
            Wanted::MaxTimesPeer(max) => ("<=", max, " of the first peer", to_peer()),
            Wanted::MaxTimesRow(max, row) => ("<=", max, " of that alone", to_row(row)),
            Wanted::MinTimesRow(min, row) => (">=", min, " of that alone", to_row(row)),
        };
        let holds = figure.map(|it| if sign == "<=" { it <= bound } else { it >= bound });
        self.missed += usize::from(holds == Some(false));
        let verdict = holds.map_or("?", |holds| if holds { "yes" } else { "NO" });
        format!("{sign} {bound}{unit}: {verdict}")
    }
}

fn markdown_row(title: &str, row: &Row, figures: &[Figures], verdicts: &[String]) -> String {
    let cell = |kind: fn(Contender) -> bool| values(figures, kind).map(spread).unwrap_or_default();
    let theirs = cell(Contender::is_theirs);
    let to_theirs = ratios(figures).find(|(who, _)| who.is_theirs()).map(|(_, ratio)| ratio);
    let is_theirs_ahead =
        to_theirs.is_some_and(|ratio| if row.more_is_better() { ratio < 1.0 } else { ratio > 1.0 });
    let peers = figures.iter().filter(|(who, _)| who.is_peer());
    let peers: Vec<String> =
        peers.map(|(who, values)| format!("{} {}", who.name(), spread(values))).collect();
    format!(
        "| {title}: {} | {} | {} | {} | {} | {} |",
        row.0,
        if is_theirs_ahead { format!("**{theirs}**") } else { theirs },
        cell(Contender::is_ours),
        to_theirs.map(short).unwrap_or_default(),
        peers.join(", "),
        verdicts.join(", "),
    )
}

/// What ours is of each other's, where that is a number: there may be nothing to compare with.
fn ratios(figures: &[Figures]) -> impl Iterator<Item = (Contender, f64)> {
    let ours = values(figures, Contender::is_ours);
    let others = figures.iter().filter(|(who, _)| !who.is_ours());
    let ratios = others.filter_map(move |(who, values)| Some((*who, median_ratio(ours?, values))));
    ratios.filter(|(_, ratio)| ratio.is_finite())
}

/// The figures of the first contender of that kind.
fn values(figures: &[Figures], kind: impl Fn(Contender) -> bool) -> Option<&[f64]> {
    figures.iter().find(|(contender, _)| kind(*contender)).map(|(_, values)| &values[..])
}

/// The median of the rounds' ratios, as neighbours in time are alike.
fn median_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn median(values: &[f64]) -> f64 {
    let sorted = sorted(values);
    f64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2])
}

fn spread(values: &[f64]) -> String {
    let sorted = sorted(values);
    let [least, most] = [sorted.first(), sorted.last()].map(|it| it.map_or(f64::NAN, |it| *it));
    let [middle, least, most] = [median(values), least, most].map(short);
    format!("{middle} ({least} to {most})")
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Three figures are all that such measurements are worth.
fn short(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}
