#![allow(clippy::unwrap_used)]

use super::*;

/// A speaker's side and a thread's.
fn monitors() -> (Monitors, Desk, mio::Poll) {
    let poll = mio::Poll::new().unwrap();
    let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).unwrap());
    let (requests, received) = mpsc::channel();
    let ((end, ended), (done, finished)) = (mpsc::channel(), mpsc::channel());
    let monitors = Monitors { subscribers: Vec::new(), requests: Some(received), ends: vec![end], done: finished };
    (monitors, Desk { requests, waker, end: ended, _done: done }, poll)
}

fn router() -> Router {
    let config = crate::Config {
        asn: 1,
        router_id: [10, 0, 0, 1].into(),
        cluster_id: None,
        addresses: Vec::new(),
        listen: Vec::new(),
        neighbors: Default::default(),
        ranges: Vec::new(),
        routes: Default::default(),
        multipath: 1,
        graceful_restart: None,
    };
    let mut router = Router::new(config, false, 1, Instant::now());
    router.watch();
    router
}

#[test]
fn who_falls_behind_loses_the_subscription_and_nobody_else() {
    let (mut monitors, desk, _poll) = monitors();
    let mut router = router();
    let (mut slow, mut quick) = (desk.subscribe(Kind::Updates).unwrap(), desk.subscribe(Kind::Updates).unwrap());
    monitors.turn(&mut router, Instant::now(), |_| None);
    let batch = Arc::new(Batch { bytes: vec![0; LIMIT / 2 - 1], heard: Vec::new() });
    for round in 0..3 {
        monitors.subscribers.iter_mut().for_each(|s| s.send(Item::Heard(batch.clone())));
        assert!(matches!(quick.next(Duration::ZERO), Next::Item(_)), "{round}");
        // What was handed over counts until the next is asked for.
        assert!(matches!(quick.next(Duration::ZERO), Next::Nothing), "{round}");
        monitors.turn(&mut router, Instant::now(), |_| None);
    }
    assert_eq!(monitors.subscribers.len(), 1);
    assert!(matches!(slow.next(Duration::ZERO), Next::Item(_)));
    assert!(matches!(slow.next(Duration::ZERO), Next::Item(_)));
    assert!(matches!(slow.next(Duration::ZERO), Next::TooSlow));
}

#[test]
fn the_tables_wait_for_room_and_go_on_when_there_is() {
    let (mut monitors, desk, mut poll) = monitors();
    let mut router = router();
    let mut subscription = desk.subscribe(Kind::Station { statistics: None }).unwrap();
    monitors.turn(&mut router, Instant::now(), |_| None);
    // The first round began with IPv4, the second would go on.
    monitors.subscribers[0].send(Item::Bytes(vec![0; LOW]));
    assert!(!monitors.is_busy());
    poll.poll(&mut mio::Events::with_capacity(1), Some(Duration::ZERO)).unwrap();
    while !matches!(subscription.next(Duration::ZERO), Next::Nothing) {}
    let mut events = mio::Events::with_capacity(1);
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert!(!events.is_empty(), "it was woken");
    assert!(monitors.is_busy());
    monitors.turn(&mut router, Instant::now(), |_| None);
    assert!(!monitors.is_busy(), "the tables are read");
}

#[test]
fn threads_see_the_end() {
    let (monitors, desk, _poll) = monitors();
    let mut subscription = desk.subscribe(Kind::Updates).unwrap();
    let seen = std::thread::spawn(move || {
        let waited = desk.wait(Duration::from_secs(60));
        (waited, matches!(subscription.next(Duration::from_secs(60)), Next::Ended))
    });
    drop(monitors);
    assert_eq!(seen.join().unwrap(), (false, true));
}
