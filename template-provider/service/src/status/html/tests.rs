use super::*;

fn html(page: &Page) -> String {
    render(page, "sluice-test", "1.2.3", Duration::from_secs(90))
}

#[test]
fn text_from_peers_cannot_become_markup() {
    let evil = "<script>alert('1')</script>&\"";
    let section = Section::table(evil, [evil]).note(evil).row([Cell::bad(evil)]);
    let html = html(&Page::new(evil).with(section).with(Section::pairs("x").pair(evil, evil)));
    assert!(!html.contains("<script"), "{html}");
    assert_eq!(
        html.matches("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;").count(),
        8,
        "{html}"
    );
}

#[test]
fn the_page_renews_itself_without_a_script_and_fits_both_colour_schemes() {
    let html = html(&Page::new("t"));
    assert!(html.contains("<meta http-equiv=\"refresh\" content=\"5\">"));
    assert!(html.contains("prefers-color-scheme: dark"));
    assert!(html.contains("sluice-test 1.2.3, up 1 min 30 s"));
}

#[test]
fn numbers_stand_to_the_right_and_colours_follow_the_tone() {
    let html = html(&Page::new("t").with(Section::table("T", ["a", "b", "c"]).row([
        Cell::from("12.5 TH/s"),
        Cell::from("ann 1 x"),
        Cell::good(7_u64),
    ])));
    let row = "<tr><td class=\"number\">12.5 TH/s</td><td>ann 1 x</td><td class=\"good number\">7</td></tr>";
    assert!(html.contains(row), "{html}");
}

#[test]
fn a_long_table_is_cut_and_says_so() {
    let rows = (0..ROWS + 3).map(|row| [row.to_string()]);
    let html = html(&Page::new("t").with(Section::table("T", ["n"]).rows(rows)));
    assert_eq!(html.matches("<td").count(), ROWS);
    assert!(html.contains("and 3 more"));
}
