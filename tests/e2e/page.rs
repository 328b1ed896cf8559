//! The page in a real browser, in front of a real cluster.

use serde_json::{Value, json};

use crate::application::{Application, make_table};
use crate::balancer::Balancer;
use crate::browser::{Browser, DESKTOP, Eyes, NIGHT, PHONE};
use crate::cluster::Cluster;
use crate::wait::{seconds, until_true};

/// The accessibility rules, run within the page; see tests/e2e/axe/README.md.
const AXE: &str = include_str!("axe/axe.min.js");
/// Until the backend answers it, a viewer's question who they are is a 404 that the console shows.
const EXPECTED: &str = "/api/v1/whoami";

/// Remembers the largest number of held clients that the page has shown, and which titles.
const WATCH: &str = r#"
    window.watch = { held: 0, titles: [document.title] };
    new MutationObserver(() => {
        const held = parseInt(document.querySelector("dd.held").textContent, 10);
        watch.held = Math.max(watch.held, held);
        if (watch.titles.at(-1) !== document.title) watch.titles.push(document.title);
    }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
"#;

/// In the place of the network: who asks, and what was asked.
const STAND_IN: &str = r#"
    window.asked = [];
    const real = window.fetch;
    window.fetch = async (path, options) => {
        const json = (status, body) =>
            new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json" } });
        if (path === "/api/v1/whoami") return json(200, { user: "ada", role: ROLE });
        if (options?.method !== "POST") return real(path, options);
        window.asked.push({ path, type: options.headers["Content-Type"], body: JSON.parse(options.body) });
        return ANSWER;
    };
"#;

/// How many rules are kept, and which are broken, where.
const RULES: &str = "
    const done = arguments[arguments.length - 1];
    const told = ({ id, help, nodes }) => [id, help, ...nodes.slice(0, 3).map((node) => node.html.slice(0, 200))];
    axe.run().then(({ passes, violations }) => done({ kept: passes.length, broken: violations.map(told) }));
";

fn complaints(browser: &Browser) -> Vec<String> {
    browser.complaints().into_iter().filter(|complaint| !complaint.contains(EXPECTED)).collect()
}

fn address(balancer: &Balancer) -> String {
    format!("http://{}/", balancer.admin())
}

fn open(balancer: &Balancer, eyes: Eyes) -> Browser {
    let browser = Browser::open(eyes);
    browser.visit(&address(balancer));
    browser.until("the page lives", 20, r#"return document.getElementById("link").textContent === "live""#);
    browser
}

fn title_says(writer: &str) -> String {
    format!("return document.getElementById('cluster-1-title').innerText.includes('{writer} takes writes')")
}

#[test]
fn a_switchover_is_seen_without_reloading() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    make_table(balancer.primary());
    let writers = [(); 3].map(|()| Application::writer(balancer.primary()));
    let reader = Application::reader(balancer.replicas());
    let old = cluster.leader();
    let browser = open(&balancer, DESKTOP);
    browser.until("the writer's name", 20, &title_says(&old));
    browser.picture("before");
    browser.run(WATCH);

    std::thread::scope(|scope| {
        let handed_over = scope.spawn(|| cluster.tool(&["switchover"]));
        browser.until("held clients", 60, "return watch.held > 0");
        browser.picture("during");
        handed_over.join().expect("a switchover");
    });
    until_true("another leads", seconds(60), || balancer.writer().is_some_and(|writer| writer != old));
    let new = balancer.writer().expect("a writer");
    browser.until("the new writer's name", 20, &title_says(&new));
    let settled = r#"return document.querySelector("dd.held").textContent.trim() === "0""#;
    browser.until("nobody is held", 20, settled);
    let told = format!(
        r#"const told = document.getElementById("cluster-1-incident-1")?.innerText ?? "nothing";
           return told.includes("{old} → {new}") && told.includes("first session on {new}") || told"#
    );
    browser.until("the incident from its first sign to the first session", 40, &told);
    browser.picture("after");
    let watched = browser.run("return watch");
    let name = &balancer.view()["name"];
    let title = |writer: &str| format!("{}: {writer} · pilotfish", name.as_str().unwrap_or_default());
    let titles = watched["titles"].as_array().expect("the page was not loaded anew");
    assert_eq!((&titles[0], titles.last()), (&json!(title(&old)), Some(&json!(title(&new)))), "{watched}");
    assert_eq!(complaints(&browser), [""; 0]);
    for writer in writers {
        assert_eq!(writer.finish().failed_connects, []);
    }
    reader.finish();
}

#[test]
fn the_page_is_complete_without_javascript() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let _reader = Application::reader(balancer.replicas());
    let browser = Browser::open(DESKTOP);
    browser.command("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.visit(&address(&balancer));
    let text = browser.run("return document.body.innerText");
    let text = text.as_str().expect("text");
    let leader = format!("{} takes writes", cluster.leader());
    let wanted =
        [&*leader, "Members", "Sessions", "Failovers and interruptions", "127.0.40.12:5432", "relaying"];
    for words in wanted {
        assert!(text.contains(words), "{words} in {text}");
    }
    assert!(!text.contains("Drain") && !text.contains("There is another"), "no button without a use: {text}");
    let loaded = browser.run("return performance.timeOrigin");
    browser.until("it loads itself anew", 20, &format!("return performance.timeOrigin > {loaded}"));
    browser.visit(&format!("{}?q=nobody+at+all", address(&balancer)));
    let found = browser.run("return document.getElementById('session-list').innerText");
    let found = found.as_str().expect("text");
    assert!(found.starts_with("0 of ") && found.contains("“nobody at all”"), "{found}");
    browser.picture("without-javascript");
}

#[test]
fn every_width_and_light_keeps_the_rules_of_accessibility() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let _applications = [Application::reader(balancer.primary()), Application::reader(balancer.replicas())];
    let browser = open(&balancer, DESKTOP);
    browser.run(&format!("{AXE}; window.axe = axe"));
    let night = Eyes { scheme: "dark", ..PHONE };
    let looks =
        [("desktop-light", DESKTOP), ("desktop-dark", NIGHT), ("phone-light", PHONE), ("phone-dark", night)];
    for (name, eyes) in looks {
        browser.look_with(eyes);
        let width = browser.run("return document.documentElement.scrollWidth");
        assert!(width.as_u64().is_some_and(|width| width <= u64::from(eyes.width)), "{name}: {width} wide");
        let found = browser.run_async(RULES);
        assert!(found["kept"].as_u64().is_some_and(|kept| kept >= 20), "{name}: {found:#}");
        assert_eq!(found["broken"], json!([]), "{name}: {found:#}");
        browser.picture(name);
    }
    let size = balancer.page("/").expect("an answer").1.len();
    assert!(size < 150_000, "{size} bytes");
    assert_eq!(complaints(&browser), [""; 0]);
}

/// The page as it is shown to this role, with a backend that gives this answer to every change.
fn acted(balancer: &Balancer, role: &str, answer: &str) -> Browser {
    let browser = Browser::open(DESKTOP);
    let source = STAND_IN.replace("ROLE", &format!("'{role}'")).replace("ANSWER", answer);
    browser.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": source }));
    browser.visit(&address(balancer));
    let known = format!("return document.getElementById('who').textContent === 'ada, {role}'");
    browser.until("the role", 20, &known);
    browser
}

const VISIBLE: &str =
    "return [...document.querySelectorAll('[data-act]')].filter((b) => b.checkVisibility()).length";

#[test]
fn an_operator_is_asked_once_and_a_viewer_is_not_offered_anything() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let viewer = acted(&balancer, "viewer", "json(200, {})");
    assert_eq!(viewer.run(VISIBLE), json!(0));
    drop(viewer);

    let operator = acted(&balancer, "operator", "json(200, { state: 'drain' })");
    assert_eq!(operator.run(VISIBLE), json!(9), "drain, maint and close for each of three");
    let click = |button: &str| format!("document.querySelector(\"{button}\").click()");
    operator.run(&click("[data-act=drain][data-member=patroni2]"));
    let question = operator
        .run("return document.getElementById('ask').open && document.getElementById('ask').innerText");
    assert!(question.as_str().is_some_and(|text| text.contains("Drain patroni2?")), "{question}");
    operator.picture("question");
    assert_eq!(operator.run("return asked.length"), json!(0), "nothing before the answer");
    operator.run(&click("#ask-no"));
    assert_eq!(operator.run("return [asked.length, document.getElementById('ask').open]"), json!([0, false]));
    operator.run(&click("[data-act=drain][data-member=patroni2]"));
    operator.run(&click("#ask-yes"));
    operator.until("the end of the question", 10, "return !document.getElementById('ask').open");
    operator.run(&click("[data-act=close][data-member=patroni3]"));
    operator.run(&click("#ask-yes"));
    operator.until("the second answer", 10, "return asked.length === 2");
    let members = "/api/v1/clusters/e2e/members";
    let asked = |path: &str, body: Value| json!({ "path": format!("{members}/{path}"), "type": "application/json", "body": body });
    assert_eq!(
        operator.run("return asked"),
        json!([
            asked("patroni2/state", json!({ "state": "drain" })),
            asked("patroni3/close-sessions", json!({}))
        ])
    );
    assert_eq!(operator.complaints(), [""; 0]);
}

#[test]
fn a_refused_action_says_why() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::start(cluster);
    let browser = acted(&balancer, "operator", "json(403, { error: 'only an operator may do this' })");
    browser.run(
        "document.querySelector('[data-act=maint]').click(); document.getElementById('ask-yes').click()",
    );
    let told = "return document.getElementById('ask-error').textContent";
    browser.until(
        "the refusal",
        10,
        "return document.getElementById('ask-error').textContent === 'Refused: only an operator may do this'",
    );
    assert_eq!(
        browser.run("return document.getElementById('ask').open"),
        json!(true),
        "{}",
        browser.run(told)
    );
}
