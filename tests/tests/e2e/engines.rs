//! Another engine behind the same name: what counts is which outside it is.

use serde_json::json;

use crate::support::engine::Engine;
use crate::support::project::Project;

const IMAGE: (&str, &str) = ("docker.io/library/registry", "2.8.3");

/// Two engines, each with the image that the Docker provider's registries run, and a project that uses one of them by
/// `DOCKER_HOST`.
struct TwoEngines {
    engines: [Project; 2],
    user: Project,
}

fn socket(project: &Project) -> String {
    format!("unix://{}/docker.sock", project.engine_folder().display())
}

impl TwoEngines {
    fn new() -> Self {
        let engines = [Project::new(&[], ""), Project::new(&[], "")];
        for project in &engines {
            project.apply_first();
            let image = project.engine().inspect("dev-local-registry")["Image"].as_str().unwrap().to_owned();
            let (repository, tag) = IMAGE;
            let path = format!("/images/{image}/tag?repo={repository}&tag={tag}");
            let (status, answer) = project.engine().call("POST", &path, &json!(null));
            assert_eq!(status, 201, "{answer}");
        }
        let mut user = Project::empty(crate::support::free_port());
        user.declare(&["docker.io"], "");
        let file = user.read("ksail.yaml").replace("Embedded", "Docker").replace("name: dev", "name: guest");
        user.write("ksail.yaml", &file);
        user.set_env("DOCKER_HOST", &socket(&engines[0]));
        Self { engines, user }
    }

    fn id(&self, which: usize) -> String {
        let (_, info) = self.engines[which].engine().call("GET", "/info", &json!(null));
        info["ID"].as_str().unwrap().to_owned()
    }

    fn outside(&self, which: usize) -> Engine {
        self.engines[which].engine()
    }
}

#[test]
fn another_engine_behind_the_same_name_is_unknown_and_nothing_is_made_or_deleted_there() {
    let mut two = TwoEngines::new();
    two.user.run(&["apply", "--auto-approve"]).code(0);
    let there = two.outside(0).addresses("guest");
    assert_eq!(there.len(), 5, "{there:?}");

    let other = socket(&two.engines[1]);
    two.user.set_env("DOCKER_HOST", &other);
    let plan = two.user.run(&["plan", "--detailed-exitcode"]).code(3).says(&two.id(0)).says(&two.id(1));
    assert!(plan.out.contains("blocked"), "{plan}");
    two.user.run(&["apply", "--auto-approve"]).code(3);
    let destroyed = two.user.run(&["destroy", "--auto-approve"]);
    assert_eq!(destroyed.code, Some(3), "{destroyed}");
    assert_eq!(two.outside(0).addresses("guest"), there);
    assert_eq!(two.outside(1).addresses("guest"), [""; 0]);

    let first = socket(&two.engines[0]);
    two.user.set_env("DOCKER_HOST", &first);
    two.user.is_settled();
    two.user.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(two.outside(0).addresses("guest"), [""; 0]);
}

#[test]
fn a_lost_state_on_an_engine_of_others_is_recovered_and_what_is_of_others_stays() {
    let two = TwoEngines::new();
    two.user.run(&["apply", "--auto-approve"]).code(0);
    let others = two.outside(0).addresses("dev");
    std::fs::remove_dir_all(two.user.path().join(".ksail")).unwrap();
    two.user.run(&["plan"]).code(3).says("ksail state recover");
    two.user.run(&["state", "recover", "--auto-approve"]).code(0);
    two.user.is_settled();
    two.user.run(&["destroy", "--auto-approve"]).code(0);
    assert_eq!(two.outside(0).addresses("guest"), [""; 0]);
    assert_eq!(two.outside(0).addresses("dev"), others);
}

#[test]
fn an_engine_that_does_not_answer_is_unknown_and_not_absent() {
    let mut two = TwoEngines::new();
    two.user.run(&["apply", "--auto-approve"]).code(0);
    two.user.set_env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    two.user.run(&["plan"]).code(3).says("/nowhere/docker.sock").says("blocked");
    two.user.run(&["destroy", "--auto-approve"]).code(3);
    assert_eq!(two.outside(0).addresses("guest").len(), 5);
}
