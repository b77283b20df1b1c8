#![allow(clippy::unwrap_used)]

use super::*;

fn series(name: &str, worker: &str) -> Series {
    (name.to_owned(), Labels::of(&[("worker", worker)]))
}

fn open(dir: &tempfile::TempDir) -> Result<(Journal, BTreeMap<Series, u64>), JournalError> {
    Journal::open(&dir.path().join("counters.jsonl"))
}

fn with_file(content: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("counters.jsonl"), content).unwrap();
    dir
}

#[test]
fn the_last_total_of_a_name_and_its_labels_is_the_one_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (ann, bob) = (series("shares", "ann \"1\"\n"), series("shares", "bob"));
    let (mut journal, totals) = open(&dir).unwrap();
    assert!(totals.is_empty());
    journal.append(&lines([(&ann, 1), (&bob, 7)].into_iter())).unwrap();
    journal.append(&lines([(&ann, 5)].into_iter())).unwrap();
    let (_, totals) = open(&dir).unwrap();
    assert_eq!(totals, BTreeMap::from([(ann, 5), (bob, 7)]));
}

#[test]
fn a_kill_at_any_byte_of_a_write_leaves_the_totals_from_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let ann = series("shares", "ann");
    let (mut journal, _) = open(&dir).unwrap();
    journal.append(&lines([(&ann, 41)].into_iter())).unwrap();
    let before = std::fs::read(dir.path().join("counters.jsonl")).unwrap();
    journal.append(&lines([(&ann, 42)].into_iter())).unwrap();
    let after = std::fs::read(dir.path().join("counters.jsonl")).unwrap();
    for end in before.len()..=after.len() {
        let dir = with_file(&after[..end]);
        let (mut journal, totals) = open(&dir).unwrap();
        let value = if end == after.len() { 42 } else { 41 };
        assert_eq!(totals[&ann], value, "cut at byte {end}");
        journal.append(&lines([(&ann, 43)].into_iter())).unwrap();
        assert_eq!(open(&dir).unwrap().1[&ann], 43, "written on after a cut at byte {end}");
    }
}

#[test]
fn the_other_lines_of_a_damaged_file_count_and_the_file_is_kept_as_it_was() {
    let content =
        b"[\"shares\",{\"worker\":\"ann\"},1]\n[\"shares\",{},\n\xff\n[\"shares\",{\"worker\":\"ann\"},3]\n";
    let (totals, damage) = replay(content);
    let damage = damage.unwrap();
    assert_eq!((totals.len(), damage.lines, damage.first), (1, 2, 2), "{damage:?}");
    let dir = with_file(content);
    let (mut journal, totals) = open(&dir).unwrap();
    assert_eq!(totals[&series("shares", "ann")], 3);
    let kept = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        path.display().to_string().contains("counters.jsonl.damaged-").then_some(path)
    };
    let kept: Vec<_> = std::fs::read_dir(dir.path()).unwrap().filter_map(kept).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(std::fs::read(&kept[0]).unwrap(), content);
    journal.append(&lines([(&series("shares", "ann"), 4)].into_iter())).unwrap();
    let (totals, damage) = read(&dir.path().join("counters.jsonl")).unwrap();
    assert_eq!((totals[&series("shares", "ann")], damage), (4, None));
}

#[test]
fn a_full_disk_is_named_as_what_cannot_be_written_and_the_totals_are_left_as_they_are() {
    let content = b"[\"shares\",{},1]\n";
    let dir = with_file(content);
    std::os::unix::fs::symlink("/dev/full", dir.path().join("counters.jsonl.new")).unwrap();
    let error = open(&dir).err().unwrap().to_string();
    assert!(error.contains("cannot be written") && error.contains("No space left"), "{error}");
    assert!(error.ends_with(&format!("Make room, or make {} writable", dir.path().display())), "{error}");
    assert_eq!(std::fs::read(dir.path().join("counters.jsonl")).unwrap(), content);
}

#[test]
fn a_total_that_falls_is_damage_and_the_higher_one_counts() {
    let (totals, damage) = replay(b"[\"shares\",{},2]\n[\"shares\",{},1]\n");
    assert_eq!(totals.into_values().collect::<Vec<_>>(), [2]);
    let damage = damage.unwrap();
    assert!(damage.first == 2 && damage.reason.contains("falls from 2 to 1"), "{damage:?}");
}

#[test]
fn a_file_that_has_grown_long_is_written_anew_with_the_same_totals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("counters.jsonl");
    let ann = series("shares", &"a".repeat(100_000));
    let (mut journal, _) = open(&dir).unwrap();
    let mut total = 0;
    while !journal.is_long() {
        total += 1;
        journal.append(&lines([(&ann, total)].into_iter())).unwrap();
    }
    let long = std::fs::metadata(&path).unwrap().len();
    journal.rewrite(&BTreeMap::from([(ann.clone(), total)])).unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() * 4 < long);
    journal.append(&lines([(&ann, total + 1)].into_iter())).unwrap();
    assert_eq!(open(&dir).unwrap().1[&ann], total + 1);
}
