//! The two dashboards, as the code that makes them. What is in `tilt/grafana/dashboards` must be what this makes:
//! `UPDATE_DASHBOARDS=1 cargo nextest run -p tests --test seeing dashboards` writes it.

mod machinery;
mod money;

use serde_json::{Value, json};

use super::{read, root};

/// Columns of Grafana's grid.
const COLUMNS: u32 = 24;

/// A page of panels.
pub(super) struct Dashboard {
    uid: &'static str,
    title: &'static str,
    description: &'static str,
    rows: Vec<Row>,
}

/// Panels under one heading, from left to right and on in the next line.
struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// One picture.
pub(super) struct Panel {
    pub(super) title: &'static str,
    description: &'static str,
    kind: Kind,
    /// Expressions and what they are called.
    pub(super) targets: Vec<(&'static str, &'static str)>,
    unit: &'static str,
    width: u32,
}

enum Kind {
    /// A number, and from when on it is green or red.
    Stat { thresholds: Vec<(&'static str, Option<u32>)> },
    /// Lines over time.
    Graph { stacked: bool },
}

fn stat(title: &'static str, description: &'static str, expression: &'static str) -> Panel {
    let kind = Kind::Stat { thresholds: vec![("text", None)] };
    Panel { title, description, kind, targets: vec![(expression, title)], unit: "locale", width: 4 }
}

fn graph(title: &'static str, description: &'static str, targets: &[(&'static str, &'static str)]) -> Panel {
    let kind = Kind::Graph { stacked: false };
    Panel { title, description, kind, targets: targets.to_vec(), unit: "locale", width: 8 }
}

impl Panel {
    fn bad_from(self, value: u32) -> Panel {
        Panel { kind: Kind::Stat { thresholds: vec![("green", None), ("red", Some(value))] }, ..self }
    }

    fn good_from(self, value: u32) -> Panel {
        Panel { kind: Kind::Stat { thresholds: vec![("red", None), ("green", Some(value))] }, ..self }
    }

    fn stacked(self) -> Panel {
        Panel { kind: Kind::Graph { stacked: true }, ..self }
    }

    fn in_unit(self, unit: &'static str) -> Panel {
        Panel { unit, ..self }
    }

    fn width(self, width: u32) -> Panel {
        Panel { width, ..self }
    }

    fn height(&self) -> u32 {
        if matches!(self.kind, Kind::Stat { .. }) { 4 } else { 8 }
    }

    fn json(&self, id: u32, x: u32, y: u32) -> Value {
        let source = json!({ "type": "prometheus", "uid": "${datasource}" });
        let target = |(i, (expr, legend)): (usize, &(&str, &str))| {
            let ref_id = char::from(b'A' + u8::try_from(i).expect("few expressions a panel")).to_string();
            json!({ "refId": ref_id, "datasource": source, "expr": expr, "legendFormat": legend })
        };
        let (kind, defaults, options) = match &self.kind {
            Kind::Stat { thresholds } => {
                let steps: Vec<Value> =
                    thresholds.iter().map(|(color, from)| json!({ "color": color, "value": from })).collect();
                let thresholds = json!({ "mode": "absolute", "steps": steps });
                let defaults = json!({ "unit": self.unit, "decimals": 0, "thresholds": thresholds });
                let reduced = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
                (
                    "stat",
                    defaults,
                    json!({ "reduceOptions": reduced, "colorMode": "value", "graphMode": "area" }),
                )
            }
            Kind::Graph { stacked } => {
                let (mode, fill) = if *stacked { ("normal", 20) } else { ("none", 5) };
                let stacking = json!({ "mode": mode, "group": "A" });
                let custom = json!({ "drawStyle": "line", "fillOpacity": fill, "stacking": stacking });
                let legend = json!({ "displayMode": "list", "placement": "bottom", "showLegend": true });
                let tooltip = json!({ "mode": "multi", "sort": "desc" });
                let defaults = json!({ "unit": self.unit, "min": 0, "custom": custom });
                ("timeseries", defaults, json!({ "legend": legend, "tooltip": tooltip }))
            }
        };
        json!({
            "id": id,
            "type": kind,
            "title": self.title,
            "description": self.description,
            "datasource": source,
            "gridPos": { "x": x, "y": y, "w": self.width, "h": self.height() },
            "fieldConfig": { "defaults": defaults, "overrides": [] },
            "options": options,
            "targets": self.targets.iter().enumerate().map(target).collect::<Vec<Value>>(),
        })
    }
}

impl Dashboard {
    /// Every panel, in order.
    pub(super) fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|row| &row.panels)
    }

    fn json(&self) -> Value {
        let (mut panels, mut y) = (Vec::new(), 0);
        let mut next_id = 1..;
        let mut id = || next_id.next().expect("it has no end");
        for row in &self.rows {
            let at = json!({ "x": 0, "y": y, "w": COLUMNS, "h": 1 });
            panels.push(json!({ "id": id(), "type": "row", "title": row.title, "collapsed": false, "gridPos": at, "panels": [] }));
            y += 1;
            let (mut x, mut height) = (0, 0);
            for panel in &row.panels {
                if x + panel.width > COLUMNS {
                    (x, y, height) = (0, y + height, 0);
                }
                panels.push(panel.json(id(), x, y));
                x += panel.width;
                height = height.max(panel.height());
            }
            y += height;
        }
        // The uid that provisioning gives the data source; whoever imports the page elsewhere chooses another.
        let current = json!({ "text": "Prometheus", "value": "prometheus" });
        json!({
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["millrace"],
            "schemaVersion": 39,
            "version": 1,
            "editable": true,
            "timezone": "browser",
            "refresh": "10s",
            "time": { "from": "now-1h", "to": "now" },
            "graphTooltip": 1,
            "links": [{ "type": "dashboards", "title": "Millrace", "tags": ["millrace"], "asDropdown": false, "keepTime": true }],
            "templating": { "list": [
                { "name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": current }
            ] },
            "panels": panels,
        })
    }
}

/// Both, by the name of their file, money first.
pub(super) fn all() -> [(&'static str, Dashboard); 2] {
    [("money", money::dashboard()), ("machinery", machinery::dashboard())]
}

#[test]
fn dashboards_are_what_the_code_makes() {
    for (name, dashboard) in all() {
        let file = format!("tilt/grafana/dashboards/{name}.json");
        let made = format!("{:#}\n", dashboard.json());
        if std::env::var_os("UPDATE_DASHBOARDS").is_some() {
            std::fs::write(root().join(&file), &made).expect("writable");
        }
        assert!(read(&file) == made, "{file} is not what the code makes: run this with UPDATE_DASHBOARDS=1");
    }
}

#[test]
fn panels_have_a_title_of_their_own_and_say_what_they_show() {
    for (name, dashboard) in all() {
        let mut titles: Vec<&str> = dashboard.panels().map(|panel| panel.title).collect();
        let count = titles.len();
        titles.sort_unstable();
        titles.dedup();
        assert_eq!(titles.len(), count, "{name}");
        assert!(count >= 15, "{name} shows {count} panels");
        for panel in dashboard.panels() {
            assert!(panel.description.ends_with('.') && !panel.targets.is_empty(), "{}", panel.title);
            assert!(panel.width <= COLUMNS, "{}", panel.title);
        }
    }
}
