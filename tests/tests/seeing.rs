//! What operators see: metrics that add up at every scrape and whose names and labels are bounded, dashboards, alerts,
//! and the pages that explain them.

mod seeing {
    mod alerts;
    mod books;
    mod dashboards;
    mod labels;
    mod money;
    mod names;
    mod panels;
    mod payments;

    use std::path::PathBuf;

    use cli::audit::metrics::Scrape;

    /// The project's root.
    fn root() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    /// A file of the project.
    fn read(file: &str) -> String {
        std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    /// The text of a scrape.
    async fn text_of(admin_url: &str) -> String {
        let answer = reqwest::get(format!("{admin_url}/metrics")).await.expect("an answer");
        answer.error_for_status().expect("a scrape").text().await.expect("text")
    }

    /// A scrape; `None` while nobody answers.
    async fn scrape(admin_url: &str) -> Option<Scrape> {
        let text = reqwest::get(format!("{admin_url}/metrics")).await.ok()?.text().await.ok()?;
        Some(Scrape::parse(&text))
    }
}
