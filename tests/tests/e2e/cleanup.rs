//! What a lab leaves behind: nothing, also after the worst.

use std::time::Duration;

use tombolo_e2e::command::{attempt, command, run};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::wait_until;

/// Everything of the lab that others could see: namespaces, links, processes, files.
fn seen(name: &str) -> String {
    let look = format!(
        "ip netns list | grep -E '^tl-{name}-'; ip -o link | grep -F 'tl-{name}-'; pgrep -af '/tombolo-lab/{name}/'; \
         ls -d /run/tombolo-lab/{name} 2>/dev/null; true"
    );
    // The shell that looks has the name in its own command line.
    let text = run(&mut command("sh", ["-c", &look]), "");
    text.lines().filter(|line| !line.contains("pgrep")).collect::<Vec<_>>().join("\n")
}

fn outside() -> String {
    let look = "ip -o address | sed 's/ valid_lft.*//'; ip route; ip rule; nft list ruleset | grep -v '^#'; true";
    run(&mut command("sh", ["-c", look]), "")
}

#[test]
fn a_lab_leaves_nothing_behind() {
    let before = outside();
    let lab = Lab::up(&[]);
    let name = lab.name.clone();
    assert!(seen(&name).contains("router"));
    drop(lab);
    assert_eq!(seen(&name), "");
    assert_eq!(outside(), before);
}

#[test]
fn a_lab_goes_down_after_its_supervisor_was_killed() {
    let lab = Lab::up(&[]);
    let name = lab.name.clone();
    let pid = lab.status["pid"].to_string();
    run(&mut command("kill", ["-9", &pid]), "");
    wait_until("the supervisor is dead", Duration::from_secs(5), || {
        match attempt(&mut command("kill", ["-0", &pid]), "") {
            Ok(_) => Err("it lives".to_owned()),
            Err(_) => Ok(()),
        }
    });
    run(&mut lab.lab("down"), "");
    assert_eq!(seen(&name), "");
}
