use super::*;
use crate::query::{Durations, LogCounters, ServerCounters};

fn counters() -> Counters {
    let turns = Durations { bounds_us: vec![500, 1_000_000], counts: vec![3, 0, 1], sum_us: 2500 };
    let lost_bytes = [("full", 5), ("hanging", 0)].map(|(reason, lost)| (reason.to_owned(), lost));
    Counters {
        daemon: "virtlogd".to_owned(),
        version: "1.2.3\"".to_owned(),
        since_unix_s: 1_700_000_000,
        servers: [("admin".to_owned(), ServerCounters { clients: 1, ..Default::default() })].into(),
        logs: Some(LogCounters { turns, lost_bytes: lost_bytes.into(), ..LogCounters::default() }),
        ..Counters::default()
    }
}

#[test]
fn open_metrics_have_units_and_an_end() {
    let text = open_metrics(counters()).unwrap();
    for lines in [
        "# TYPE virtlogd_lost_bytes counter\n# UNIT virtlogd_lost_bytes bytes\n\
         virtlogd_lost_bytes_total{reason=\"full\"} 5\nvirtlogd_lost_bytes_total{reason=\"hanging\"} 0\n",
        "# UNIT virtlogd_write_turn_seconds seconds\nvirtlogd_write_turn_seconds_sum 0.0025\n\
         virtlogd_write_turn_seconds_count 4\nvirtlogd_write_turn_seconds_bucket{le=\"0.0005\"} 3\n\
         virtlogd_write_turn_seconds_bucket{le=\"1.0\"} 3\n\
         virtlogd_write_turn_seconds_bucket{le=\"+Inf\"} 4\n",
        "\nvirtlogd_build_info{version=\"1.2.3\\\"\",libvirt_version=\"\"} 1\n",
        "\nvirtlogd_start_time_seconds 1700000000\n",
        "\nvirtlogd_clients{server=\"admin\"} 1\n",
    ] {
        assert!(text.contains(lines), "{lines}\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
}

#[test]
fn the_older_format_declares_counters_by_their_whole_name() {
    let text = prometheus(counters()).unwrap();
    let lines = "# TYPE virtlogd_lost_bytes_total counter\n\
                 virtlogd_lost_bytes_total{reason=\"full\"} 5\n";
    assert!(text.contains(lines), "{text}");
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
}
