#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::history::series::ALL;

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// The beginning of a quarter of an hour.
const START: i64 = 20_000 * DAY;

fn lag(seconds: f64) -> Point {
    Point { lag_seconds: Some(seconds), rows_per_second: seconds, is_complete: true, ..Point::default() }
}

fn of(points: &[(&str, f64)]) -> BTreeMap<String, Point> {
    points.iter().map(|(id, seconds)| ((*id).to_owned(), lag(*seconds))).collect()
}

fn all(file: &mut File, series: &str, step: Step, now: i64) -> Vec<(i64, f64)> {
    let read = file.read(series, step, step.kept(now)).unwrap();
    let first = step.number(START);
    read.into_iter().map(|(number, point)| (number - first, point.lag_seconds.unwrap())).collect()
}

#[test]
fn where_nobody_looked_there_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new(folder.path().join("history.db"));
    for minute in [0, 1, 5, 44] {
        file.record(START + minute * MINUTE, &of(&[(ALL, minute as f64), ("m", 1.0)])).unwrap();
    }
    assert_eq!(all(&mut file, ALL, Step::Minute, START), [(0, 0.0), (1, 1.0), (5, 5.0), (44, 44.0)]);
    assert_eq!(all(&mut file, ALL, Step::Coarse, START), [(0, 5.0), (2, 44.0)]);
    assert_eq!(all(&mut file, "x", Step::Minute, START), []);
    // Read again after a restart.
    let mut file = File::new(folder.path().join("history.db"));
    assert_eq!(all(&mut file, "m", Step::Minute, START).len(), 4);
}

#[test]
fn a_clock_that_goes_backwards_replaces_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new(folder.path().join("history.db"));
    for (minute, seconds) in [(0, 100.0), (1, 1.0), (2, 2.0), (0, 3.0), (1, 4.0)] {
        file.record(START + minute * MINUTE + 59_999, &of(&[(ALL, seconds)])).unwrap();
    }
    assert_eq!(all(&mut file, ALL, Step::Minute, START), [(0, 3.0), (1, 4.0), (2, 2.0)]);
    let coarse = file.read(ALL, Step::Coarse, Step::Coarse.kept(START)).unwrap();
    assert_eq!((coarse.len(), coarse[0].1.lag_seconds, coarse[0].1.rows_per_second), (1, Some(4.0), 3.0));
}

fn rows(file: &mut File, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    file.with(|connection| connection.query_row(&sql, [], |row| row.get(0))).unwrap()
}

/// Steps of all together, counted from the first.
fn fill(file: &mut File, step: Step, numbers: RangeInclusive<i64>) {
    let sql = format!(
        "WITH RECURSIVE n (n) AS (SELECT ?1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
         INSERT OR IGNORE INTO {} SELECT ?3 + n, id, 2.0, 0, 0, 0, 0.0, 0.0, 1 FROM n, series WHERE mapping_id = ''",
        table(step)
    );
    let range = [*numbers.start(), *numbers.end(), step.number(START)];
    file.with(|connection| connection.execute(&sql, range)).unwrap();
}

#[test]
fn what_is_too_old_goes_and_mappings_that_are_gone_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new(folder.path().join("history.db"));
    file.record(START, &of(&[(ALL, 1.0), ("gone", 1.0)])).unwrap();
    fill(&mut file, Step::Minute, 1..=1_439);
    fill(&mut file, Step::Coarse, 1..=96);
    file.record(START + 1_440 * MINUTE, &of(&[(ALL, 2.0)])).unwrap();
    assert_eq!(rows(&mut file, "minutes"), 1_442, "the newest day, and the minute that is written");
    file.record(START + 1_441 * MINUTE, &of(&[(ALL, 2.0)])).unwrap();
    assert_eq!(rows(&mut file, "minutes"), 1_441);
    assert_eq!((rows(&mut file, "coarse"), rows(&mut file, "series")), (98, 2));
    fill(&mut file, Step::Coarse, 97..=5_760);
    file.record(START + 60 * DAY + 15 * MINUTE, &of(&[(ALL, 3.0)])).unwrap();
    assert_eq!((rows(&mut file, "coarse"), rows(&mut file, "series")), (5_761, 1));
}

#[test]
fn a_clock_that_is_wrong_for_a_moment_does_not_cost_the_past() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new(folder.path().join("history.db"));
    for minute in 0..30 {
        file.record(START + minute * MINUTE, &of(&[(ALL, 1.0), ("m", 2.0)])).unwrap();
    }
    for wrong in [0, START + 3_650 * DAY, i64::MIN, i64::MAX, START - DAY, START + 61 * DAY] {
        file.record(wrong, &of(&[(ALL, 9.0)])).unwrap();
    }
    file.record(START + 31 * MINUTE, &of(&[(ALL, 1.0)])).unwrap();
    let now = START + 31 * MINUTE;
    assert_eq!(all(&mut file, ALL, Step::Minute, now).len(), 31);
    assert_eq!(all(&mut file, "m", Step::Minute, now).len(), 30);
    assert_eq!(all(&mut file, "m", Step::Coarse, now), [(0, 2.0), (1, 2.0)]);
}

#[test]
fn a_file_that_cannot_be_used_is_moved_aside_and_a_new_one_begun() {
    let newer = |path: &Path| {
        File::new(path.to_owned()).record(START, &of(&[(ALL, 1.0)])).unwrap();
        Connection::open(path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    };
    let foreign = |path: &Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE x (y)").unwrap();
    let garbage = |path: &Path| std::fs::write(path, "no database, but something".repeat(1_000)).unwrap();
    let cut = |path: &Path| {
        let points: BTreeMap<String, Point> =
            (0..1_000).map(|index| (format!("m{index}"), lag(1.0))).collect();
        File::new(path.to_owned()).record(START, &points).unwrap();
        let length = std::fs::metadata(path).unwrap().len();
        OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
    };
    let spoils: [&dyn Fn(&Path); 4] = [&newer, &foreign, &garbage, &cut];
    for spoil in spoils {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.db");
        // What was moved aside before is replaced.
        std::fs::write(folder.path().join("history.db.unusable"), "before").unwrap();
        spoil(&path);
        let mut file = File::new(path);
        file.record(START + MINUTE, &of(&[(ALL, 2.0)])).unwrap();
        assert_eq!(all(&mut file, ALL, Step::Minute, START), [(1, 2.0)]);
        assert!(std::fs::metadata(folder.path().join("history.db.unusable")).unwrap().len() > 6);
    }
}

#[test]
fn damage_that_shows_later_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let mut file = File::new(path.clone());
    let points: BTreeMap<String, Point> = (0..1_000).map(|index| (format!("m{index}"), lag(1.0))).collect();
    file.record(START, &points).unwrap();
    file.with(|connection| {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        // What it read before must not hide what is there now.
        connection.execute_batch("PRAGMA shrink_memory")
    })
    .unwrap();
    // Another program writes over all pages but the first.
    let length = std::fs::metadata(&path).unwrap().len();
    let rest = vec![0x5a; usize::try_from(length).unwrap() - 4_096];
    std::os::unix::fs::FileExt::write_all_at(
        &OpenOptions::new().write(true).open(&path).unwrap(),
        &rest,
        4_096,
    )
    .unwrap();
    file.record(START + MINUTE, &points).unwrap();
    assert_eq!(all(&mut file, "m7", Step::Minute, START), [(1, 1.0)]);
}

#[test]
fn a_full_disk_is_an_error_and_goes_by() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::new(folder.path().join("history.db"));
    file.record(START, &of(&[(ALL, 1.0)])).unwrap();
    let limit = |file: &mut File, pages: u32| {
        file.with(|connection| connection.pragma_update(None, "max_page_count", pages)).unwrap();
    };
    limit(&mut file, 1);
    let points: BTreeMap<String, Point> = (0..1_000).map(|index| (format!("m{index}"), lag(1.0))).collect();
    let full = file.record(START + MINUTE, &points).unwrap_err();
    assert!(full.to_string().contains("full"), "{full}");
    assert_eq!(all(&mut file, ALL, Step::Minute, START), [(0, 1.0)], "what is there can be read");
    limit(&mut file, MAX_PAGES);
    file.record(START + 2 * MINUTE, &points).unwrap();
    assert_eq!(all(&mut file, "m999", Step::Minute, START), [(2, 1.0)]);
}
