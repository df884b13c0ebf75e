//! The ceilings of mining: a log that is only appended to and synced, and a server whose only work is that.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::dev::{MessageResponse, OneshotSender};
use actix::prelude::*;
use actix_web::{App, HttpResponse, HttpServer, web};
use tempfile::TempDir;

use super::{chain, process};

/// Set for the process that is to be the server: where its log is.
pub const FILE: &str = "BENCH_BARE";

/// Bytes of a block's record in the log.
pub const RECORD: usize = 100;

/// Groups of so many records per second that a bare log takes, each with a write and an fdatasync.
pub fn groups_per_second(blocks: usize, record: usize, time: Duration) -> f64 {
    let dir = chain::fresh();
    let file = File::create(dir.path().join("log")).expect("room");
    let group = vec![7; blocks * record];
    let begun = Instant::now();
    let mut written = 0;
    while begun.elapsed() < time {
        file.write_all_at(&group, written * group.len() as u64).expect("room");
        file.sync_data().expect("a disk that works");
        written += 1;
    }
    written as f64 / begun.elapsed().as_secs_f64()
}

/// The server as a process of its own.
pub struct Bare {
    child: Child,
    pub http: SocketAddr,
    _dir: TempDir,
}

impl Bare {
    pub fn start() -> Self {
        let dir = chain::fresh();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(FILE, dir.path().join("log"));
        let (child, line) = process::spawn(command);
        Self { child, http: process::address_in(&line), _dir: dir }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Append(web::Bytes);

#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// Who waits for the next sync.
type Callers = Rc<RefCell<Vec<OneshotSender<()>>>>;

/// Collects what comes, and makes it durable once its mailbox is empty.
struct Log {
    file: File,
    group: Vec<u8>,
    callers: Callers,
}

impl Actor for Log {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(4096);
    }
}

struct Queued(Callers);

impl MessageResponse<Log, Append> for Queued {
    fn handle(self, ctx: &mut Context<Log>, caller: Option<OneshotSender<()>>) {
        let mut callers = self.0.borrow_mut();
        if callers.is_empty() {
            ctx.notify(Flush);
        }
        callers.extend(caller);
    }
}

impl Handler<Append> for Log {
    type Result = Queued;

    fn handle(&mut self, Append(entry): Append, _: &mut Context<Self>) -> Queued {
        let end = self.group.len() + RECORD;
        self.group.extend_from_slice(&entry);
        self.group.resize(end, 0);
        Queued(self.callers.clone())
    }
}

impl Handler<Flush> for Log {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Context<Self>) {
        self.file.write_all(&self.group).expect("room");
        self.file.sync_data().expect("a disk that works");
        self.group.clear();
        for caller in self.callers.take() {
            let _ = caller.send(());
        }
    }
}

/// Serves: a body comes in, is appended to the log and synced with whatever else came, and 250 bytes go out.
pub fn serve(file: &Path) {
    let file = OpenOptions::new().create(true).append(true).open(file).expect("room");
    let running = actix_web::rt::System::new().block_on(async {
        let arbiter = Arbiter::new();
        let log =
            Log::start_in_arbiter(&arbiter.handle(), |_| Log { file, group: Vec::new(), callers: Callers::default() });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        println!("{}", listener.local_addr().expect("bound"));
        let route = async |log: web::Data<Addr<Log>>, body: web::Bytes| {
            let _ = log.send(Append(body)).await;
            HttpResponse::Ok().content_type("application/json").body("x".repeat(250))
        };
        HttpServer::new(move || App::new().app_data(web::Data::new(log.clone())).default_service(web::to(route)))
            .workers(2)
            .listen(listener)
            .expect("bound")
            .run()
            .await
    });
    running.expect("the server runs");
}
