//! The runner: services as clients.

use std::sync::mpsc::Sender;

use super::*;

/// Sends a question; finishes when the answer arrives, unless `stays_open`.
struct Asks {
    stays_open: bool,
    answered: Sender<Vec<u8>>,
}

impl StreamService for Asks {
    fn on_open(&mut self, _: &Peer<'_>, out: &mut Outbox<'_>, _: countersign::Instant) {
        out.send(b"question").unwrap();
    }

    fn on_chunk(
        &mut self,
        chunk: Chunk<'_>,
        out: &mut Outbox<'_>,
        _: countersign::Instant,
    ) -> Flow {
        self.answered.send(chunk.bytes.to_vec()).unwrap();
        if !self.stays_open {
            out.finish();
        }
        Flow::Consumed
    }
}

fn run(runner: &Runner, address: &Address, service: Asks) -> Result<(), CallError> {
    let stream = address.connect(PATIENCE).unwrap();
    runner.run(&stream, &sessions(mutual(end("client", 2))), &key(), service).1
}

#[test]
fn runner_runs_connections_in_succession() {
    let server = Running::echo(mutual(end("server", 1)), Some(key()));
    let runner = Runner::new().unwrap();
    let (answered, answers) = channel();
    for _ in 0..3 {
        let asks = Asks { stays_open: false, answered: answered.clone() };
        run(&runner, &server.address, asks).unwrap();
        assert_eq!(answers.try_recv().unwrap(), b"question");
    }
    let (address, server_thread) = scripted_server(drop);
    let failed = run(&runner, &address, Asks { stays_open: false, answered });
    assert!(failed.is_err(), "{failed:?}");
    server_thread.join().unwrap();
}

#[test]
fn stopped_runner_finishes_its_connection() {
    let server = Running::echo(mutual(end("server", 1)), Some(key()));
    let runner = Runner::new().unwrap();
    let (answered, answers) = channel();
    within_patience(|scope| {
        let running =
            scope.spawn(|| run(&runner, &server.address, Asks { stays_open: true, answered }));
        answers.recv_timeout(PATIENCE).unwrap();
        runner.shutdown_handle().stop();
        running.join().unwrap().unwrap();
        // A stopped runner does not sleep.
        runner.sleep(PATIENCE);
    });
    assert!(runner.is_stopping());
}

#[test]
fn sleep_ends_at_its_timeout_or_at_a_stop() {
    let runner = Runner::new().unwrap();
    let begun = Instant::now();
    runner.sleep(SHORT);
    assert!(begun.elapsed() >= SHORT);
    within_patience(|scope| {
        let shutdown = runner.shutdown_handle();
        let sleeping = scope.spawn(|| runner.sleep(2 * PATIENCE));
        shutdown.stop();
        sleeping.join().unwrap();
    });
}
