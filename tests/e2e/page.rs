//! The page in a real browser, in front of a real cluster.

use serde_json::json;

use crate::application::{Application, make_table};
use crate::balancer::{Balancer, OPERATOR, VIEWER, Wishes, authorization};
use crate::browser::{Browser, DESKTOP, Eyes, NIGHT, PHONE};
use crate::cluster::Cluster;
use crate::session::Session;
use crate::wait::{seconds, until_true};

/// Remembers the largest number of held clients that the page has shown, and which titles.
const WATCH: &str = r#"
    window.watch = { held: 0, titles: [document.title] };
    new MutationObserver(() => {
        const held = parseInt(document.querySelector("dd.held").textContent, 10);
        watch.held = Math.max(watch.held, held);
        if (watch.titles.at(-1) !== document.title) watch.titles.push(document.title);
    }).observe(document.documentElement, { subtree: true, childList: true, characterData: true });
"#;

/// Lets the page believe that it is an operator's.
const PRETENDER: &str = r#"
    const real = window.fetch;
    window.fetch = (path, options) => path === "/api/v1/whoami"
        ? Promise.resolve(Response.json({ user: "bob", role: "operator" }))
        : real(path, options);
"#;

/// How many rules are kept, and which are broken, where.
const RULES: &str = "
    const done = arguments[arguments.length - 1];
    const told = ({ id, help, nodes }) => [id, help, ...nodes.slice(0, 3).map((node) => node.html.slice(0, 200))];
    axe.run().then(({ passes, violations }) => done({ kept: passes.length, broken: violations.map(told) }));
";

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
    assert_eq!(browser.complaints(), [""; 0]);
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
    browser.run(&format!("{}; window.axe = axe", cluster.rules_of_accessibility()));
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
    assert_eq!(browser.complaints(), [""; 0]);
}

/// The page as it is shown to somebody who has logged in.
fn logged_in(balancer: &Balancer, login: &str) -> Browser {
    let browser = Browser::open(DESKTOP);
    browser.command("Network.enable", json!({}));
    let headers = json!({ "headers": { "Authorization": authorization(login) } });
    browser.command("Network.setExtraHTTPHeaders", headers);
    browser.visit(&address(balancer));
    browser
}

fn is_known_as(browser: &Browser, who: &str) {
    browser.until("who it is", 20, &format!("return document.getElementById('who').textContent === '{who}'"));
}

fn click(button: &str) -> String {
    format!("document.querySelector(\"{button}\").click()")
}

const VISIBLE: &str =
    "return [...document.querySelectorAll('[data-act]')].filter((b) => b.checkVisibility()).length";
const QUESTION_IS_OVER: &str = "return !document.getElementById('ask').open";

#[test]
fn an_operator_drains_by_a_click_and_is_asked_once() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(cluster, Wishes { users: true, ..Wishes::default() });
    let reader = &cluster.others(&[&cluster.leader()])[0];
    let operator = logged_in(&balancer, OPERATOR);
    is_known_as(&operator, "ada, operator");
    assert_eq!(operator.run(VISIBLE), json!(9), "drain, maint and close for each of three");

    let drain = click(&format!("[data-member={reader}] [data-act=drain]"));
    operator.run(&drain);
    let question = operator
        .run("return document.getElementById('ask').open && document.getElementById('ask').innerText");
    assert!(question.as_str().is_some_and(|text| text.contains(&format!("Drain {reader}?"))), "{question}");
    operator.picture("question");
    operator.run(&click("#ask-no"));
    operator.until("the end of the question", 10, QUESTION_IS_OVER);
    assert!(balancer.readers().contains(reader), "nothing before the answer");
    operator.run(&drain);
    operator.run(&click("#ask-yes"));
    operator.until("the end of the question", 10, QUESTION_IS_OVER);
    until_true("it takes no new sessions", seconds(10), || !balancer.readers().contains(reader));

    operator.until(
        "the way back",
        10,
        &format!("return document.querySelector('[data-member={reader}] [data-act=ready]') !== null"),
    );
    operator.run(&click(&format!("[data-member={reader}] [data-act=ready]")));
    operator.run(&click("#ask-yes"));
    until_true("it is back", seconds(10), || balancer.readers().contains(reader));
    assert_eq!(operator.complaints(), [""; 0]);
}

#[test]
fn an_operator_closes_the_sessions_of_a_member() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(cluster, Wishes { users: true, ..Wishes::default() });
    let leader = cluster.leader();
    let session = Session::open(balancer.primary()).expect("a session");
    let operator = logged_in(&balancer, OPERATOR);
    is_known_as(&operator, "ada, operator");
    operator.run(&click(&format!("[data-member={leader}] [data-act=close]")));
    operator.run(&click("#ask-yes"));
    operator.until("the end of the question", 10, QUESTION_IS_OVER);
    session.rows("SELECT 1").expect_err("it was closed");
    let ended = "return document.getElementById('sessions').innerText.includes('operator')";
    operator.until("what it ended of", 10, ended);
    assert_eq!(operator.complaints(), [""; 0]);
}

#[test]
fn a_viewer_is_offered_nothing_and_refused_all_the_same() {
    let cluster = Cluster::healthy();
    let balancer = Balancer::with(cluster, Wishes { users: true, ..Wishes::default() });
    let viewer = logged_in(&balancer, VIEWER);
    is_known_as(&viewer, "bob, viewer");
    assert_eq!(viewer.run(VISIBLE), json!(0));
    // A page that does not know its place.
    viewer.command("Page.addScriptToEvaluateOnNewDocument", json!({ "source": PRETENDER }));
    viewer.visit(&address(&balancer));
    is_known_as(&viewer, "bob, operator");
    viewer.run(&click("[data-act=maint]"));
    viewer.run(&click("#ask-yes"));
    let told = "const told = document.getElementById('ask-error').textContent;
        return told.startsWith('Refused: ') && told.includes('operator') || told";
    viewer.until("the refusal", 10, told);
    assert_eq!(viewer.run("return document.getElementById('ask').open"), json!(true));
    assert_eq!(balancer.readers().len(), 2, "nothing was changed");
}
