//! What is done to the servers while clients type, and how the losses are counted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::task::JoinHandle;

use crate::cluster::Cluster;
use crate::random::Random;
use crate::server::{Program, Server};
use crate::stored::{Clocks, Store};
use crate::writer::Writer;

/// How long the clients may take to agree after a round.
const CONVERGE_MAX: Duration = Duration::from_secs(30);
/// How long rows in a spool may take to reach a database that is back.
const DRAIN_MAX: Duration = Duration::from_secs(30);
const DOCUMENT: &str = "loss";

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// SIGKILL of the server, on SQLite.
    KillSqlite,
    /// SIGTERM of the server, on SQLite.
    TermSqlite,
    /// SIGKILL of the server, on PostgreSQL.
    KillPostgres,
    /// PostgreSQL stopped with `immediate` under the running server, and started again.
    StopPostgres,
    /// The same, and the server is killed during the outage.
    StopPostgresKill,
    /// PostgreSQL frozen for a while: connections stay, nothing answers.
    FreezePostgres,
    /// The server is started while PostgreSQL is away.
    StartDuringOutage,
    /// PostgreSQL is away until the spool is full.
    SpoolFull,
    /// Two servers on one database and one document, killed in turn.
    TwoServers,
    /// Ten servers that compact one hot document, all killed.
    TenServers,
    /// SIGKILL of Fidibus that acknowledges from memory: shows that this test finds losses.
    MemoryAcks,
    /// SIGKILL of stock Hocuspocus with its database extension: what there is to lose.
    HocuspocusKill,
    /// SIGTERM of stock Hocuspocus.
    HocuspocusTerm,
}

impl Scenario {
    /// Whether a loss is no failure: the peer promises nothing.
    pub fn may_lose(self) -> bool {
        matches!(self, Self::MemoryAcks | Self::HocuspocusKill | Self::HocuspocusTerm)
    }

    fn needs_postgres(self) -> bool {
        !matches!(
            self,
            Self::KillSqlite
                | Self::TermSqlite
                | Self::MemoryAcks
                | Self::HocuspocusKill
                | Self::HocuspocusTerm
        )
    }

    /// Characters per edit: many where something is to be filled.
    fn stroke_chars(self) -> usize {
        if self == Self::SpoolFull { 600 } else { 1 }
    }

    fn servers(self) -> usize {
        match self {
            Self::TwoServers => 2,
            Self::TenServers => 10,
            _ => 1,
        }
    }
}

/// What a scenario came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub rounds: u32,
    pub sent: u64,
    pub acked: u64,
    pub lost: u64,
    /// From the start of the server, or the return of the database, to the first synced client.
    pub recoveries: Vec<Duration>,
}

/// Where programs are, and how long it lasts.
#[derive(Clone, Debug)]
pub struct Options {
    pub fidibus: PathBuf,
    pub peers: PathBuf,
    pub folder: PathBuf,
    pub rounds: u32,
    pub writers: u64,
    pub seed: u64,
}

/// A client with the task that runs it.
struct Client {
    writer: Arc<Writer>,
    task: JoinHandle<()>,
    server: usize,
}

struct Bed {
    scenario: Scenario,
    servers: Vec<Server>,
    store: Store,
    cluster: Option<Cluster>,
    clients: Vec<Client>,
    next_client: u64,
    random: Random,
    outcome: Outcome,
    writers: u64,
    /// Up to which clock the promises to each client were checked, so that an edit is counted once.
    checked: Clocks,
}

/// Runs a scenario from an empty store to the last comparison.
pub async fn run(scenario: Scenario, options: &Options) -> anyhow::Result<Outcome> {
    let folder = options.folder.join(format!("{scenario:?}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let mut bed = Bed::new(scenario, options, &folder).await?;
    let result = bed.rounds(options.rounds).await;
    if let Some(cluster) = &bed.cluster {
        cluster.stop().await.ok();
    }
    result.map(|()| bed.outcome)
}

impl Bed {
    async fn new(scenario: Scenario, options: &Options, folder: &Path) -> anyhow::Result<Self> {
        let cluster = match scenario.needs_postgres() {
            true => Some(Cluster::create(&folder.join("postgres")).await?),
            false => None,
        };
        let sqlite = folder.join("documents.db");
        let database_url = match &cluster {
            Some(cluster) => cluster.url(),
            None => format!("sqlite:{}", sqlite.display()),
        };
        let mut variables = vec![("WS_DEBOUNCE_MS", "100".to_owned())];
        match scenario {
            // The least that it may be.
            Scenario::SpoolFull => variables.extend([
                ("WS_SPOOL_MAX_BYTES", "1048576".to_owned()),
                ("WS_MAX_DOCUMENT_BYTES", "1000000000".to_owned()),
            ]),
            Scenario::MemoryAcks => {
                variables = vec![("WS_ACK", "memory".to_owned()), ("WS_DEBOUNCE_MS", "5000".to_owned())];
            }
            _ => {}
        }
        let hocuspocus = matches!(scenario, Scenario::HocuspocusKill | Scenario::HocuspocusTerm);
        let program = match hocuspocus {
            true => Program::Hocuspocus { peers: options.peers.clone() },
            false => Program::Fidibus { binary: options.fidibus.clone(), database_url, variables },
        };
        let servers: Vec<Server> = (0..scenario.servers())
            .map(|index| Server::new(program.clone(), &folder.join(format!("server-{index}"))))
            .collect::<Result<_, _>>()?;
        let store = match &cluster {
            Some(cluster) => Store::Postgres {
                url: cluster.url(),
                spools: servers.iter().map(|server| server.state_dir().join("spool.db")).collect(),
            },
            None if hocuspocus => Store::Files(folder.join("server-0/files")),
            None => Store::Sqlite(sqlite),
        };
        Ok(Self {
            scenario,
            servers,
            store,
            cluster,
            clients: Vec::new(),
            next_client: 1,
            random: Random::new(options.seed),
            outcome: Outcome::default(),
            checked: Clocks::new(),
            writers: options.writers,
        })
    }

    async fn rounds(&mut self, rounds: u32) -> anyhow::Result<()> {
        for round in 0..rounds {
            self.round().await.with_context(|| format!("{:?}, round {}", self.scenario, round + 1))?;
            self.outcome.rounds += 1;
        }
        self.converge().await
    }

    async fn round(&mut self) -> anyhow::Result<()> {
        for index in 0..self.servers.len() {
            if !self.servers[index].is_running() {
                self.servers[index].start().await?;
            }
        }
        self.replace_clients();
        self.wait_for_sync().await?;
        self.pause(200, 900).await;
        match self.scenario {
            Scenario::KillSqlite
            | Scenario::KillPostgres
            | Scenario::MemoryAcks
            | Scenario::HocuspocusKill => {
                self.servers[0].kill().await?;
                self.take_stock().await?;
                self.recover(0).await
            }
            Scenario::TermSqlite | Scenario::HocuspocusTerm => {
                let status = self.servers[0].terminate().await?;
                ensure!(status.success() || self.scenario.may_lose(), "SIGTERM: {status}");
                self.take_stock().await?;
                self.recover(0).await
            }
            Scenario::StopPostgres | Scenario::SpoolFull => {
                let outage = if self.scenario == Scenario::SpoolFull { 3_000 } else { 1_200 };
                self.cluster()?.stop().await?;
                self.pause(outage / 2, outage).await;
                self.cluster()?.start().await?;
                self.drain().await
            }
            Scenario::StopPostgresKill => {
                self.cluster()?.stop().await?;
                self.pause(400, 1_500).await;
                self.servers[0].kill().await?;
                self.cluster()?.start().await?;
                self.take_stock().await?;
                self.recover(0).await
            }
            Scenario::FreezePostgres => {
                self.cluster()?.freeze().await?;
                self.pause(500, 3_500).await;
                self.cluster()?.thaw().await?;
                self.drain().await
            }
            Scenario::StartDuringOutage => {
                self.servers[0].kill().await?;
                self.cluster()?.stop().await?;
                self.servers[0].start().await?;
                self.pause(300, 800).await;
                self.cluster()?.start().await?;
                self.wait_for_sync().await?;
                self.pause(200, 500).await;
                self.servers[0].kill().await?;
                self.take_stock().await?;
                self.recover(0).await
            }
            Scenario::TwoServers => {
                let victim = self.random.below(2) as usize;
                self.servers[victim].kill().await?;
                self.pause(50, 300).await;
                self.take_stock().await?;
                self.recover(victim).await
            }
            Scenario::TenServers => {
                for server in &mut self.servers {
                    server.kill().await?;
                }
                self.take_stock().await?;
                for index in 0..self.servers.len() {
                    self.recover(index).await?;
                }
                Ok(())
            }
        }
    }

    /// Half of the clients are thrown away with all that they have: what they were told is stored has to
    /// be there without them.
    fn replace_clients(&mut self) {
        let keep = self.clients.len() / 2;
        for client in self.clients.drain(keep..) {
            client.task.abort();
            self.outcome.sent += u64::from(client.writer.sent());
            self.outcome.acked += u64::from(client.writer.acked());
        }
        while (self.clients.len() as u64) < self.writers.max(self.servers.len() as u64) {
            let writer = Arc::new(Writer::new(self.next_client, DOCUMENT, self.scenario.stroke_chars()));
            let server = self.next_client as usize % self.servers.len();
            self.next_client += 1;
            let (task_writer, url) = (Arc::clone(&writer), self.servers[server].url());
            let task = tokio::spawn(async move { task_writer.run(&url).await });
            self.clients.push(Client { writer, task, server });
        }
        self.clients.iter().for_each(|client| client.writer.set_typing(true));
    }

    async fn wait_for_sync(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + CONVERGE_MAX;
        while !self.clients.iter().all(|client| client.writer.is_synced()) {
            ensure!(Instant::now() < deadline, "not all clients are in after {CONVERGE_MAX:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Compares what clients were told with what is stored, before any of them can bring it again.
    async fn take_stock(&mut self) -> anyhow::Result<()> {
        let promised = self.promised();
        let clocks = self.store.clocks(DOCUMENT).await?;
        self.count(&promised, &clocks);
        Ok(())
    }

    /// Waits until the database has all that was promised when it came back, from the spool.
    async fn drain(&mut self) -> anyhow::Result<()> {
        let back = Instant::now();
        let promised = self.promised();
        let url = self.cluster()?.url();
        let database = Store::Postgres { url, spools: Vec::new() };
        loop {
            let clocks = database.clocks(DOCUMENT).await.unwrap_or_default();
            if lost(&promised, &clocks) == 0 || back.elapsed() > DRAIN_MAX {
                self.count(&promised, &clocks);
                self.outcome.recoveries.push(back.elapsed());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn promised(&self) -> Vec<(u64, u32)> {
        self.clients.iter().map(|client| (client.writer.client, client.writer.acked())).collect()
    }

    fn count(&mut self, promised: &[(u64, u32)], clocks: &Clocks) {
        let mut covered = self.checked.clone();
        for (client, clock) in clocks {
            let covered = covered.entry(*client).or_default();
            *covered = (*covered).max(*clock);
        }
        let lost = lost(promised, &covered);
        self.checked.extend(promised.iter().copied());
        if lost > 0 && !self.scenario.may_lose() {
            eprintln!("{:?}: promised {promised:?}, stored {clocks:?}", self.scenario);
        }
        self.outcome.lost += lost;
    }

    /// Starts a server again, and waits until one of its clients is in.
    async fn recover(&mut self, index: usize) -> anyhow::Result<()> {
        let started = Instant::now();
        self.servers[index].start().await?;
        let writers: Vec<_> = self.clients.iter().filter(|client| client.server == index).collect();
        let deadline = Instant::now() + CONVERGE_MAX;
        while !writers.is_empty() && !writers.iter().any(|client| client.writer.is_synced()) {
            ensure!(Instant::now() < deadline, "no client is in after {CONVERGE_MAX:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.outcome.recoveries.push(started.elapsed());
        Ok(())
    }

    /// All clients stop typing and come to the same text. Several servers do not hear of each other:
    /// theirs are compared in the store.
    async fn converge(&mut self) -> anyhow::Result<()> {
        self.clients.iter().for_each(|client| client.writer.set_typing(false));
        let deadline = Instant::now() + CONVERGE_MAX;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let done = self.clients.iter().all(|client| client.writer.sent() == client.writer.acked());
            let texts: Vec<_> = self.clients.iter().map(|client| client.writer.text()).collect();
            let same = self.servers.len() > 1 || texts.windows(2).all(|pair| pair[0] == pair[1]);
            if done && same {
                break;
            }
            ensure!(Instant::now() < deadline, "the clients do not agree after {CONVERGE_MAX:?}");
        }
        if !self.scenario.may_lose() {
            for server in &mut self.servers {
                let status = server.terminate().await?;
                ensure!(status.success(), "SIGTERM: {status}");
            }
            self.take_stock().await?;
        }
        for client in self.clients.drain(..) {
            client.task.abort();
            self.outcome.sent += u64::from(client.writer.sent());
            self.outcome.acked += u64::from(client.writer.acked());
        }
        Ok(())
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let pause = from_ms + self.random.below(to_ms - from_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    fn cluster(&self) -> anyhow::Result<&Cluster> {
        self.cluster.as_ref().context("this scenario has no PostgreSQL")
    }
}

/// Edits that were acknowledged and are not stored.
fn lost(promised: &[(u64, u32)], clocks: &Clocks) -> u64 {
    let missing =
        |(client, acked): &(u64, u32)| acked.saturating_sub(clocks.get(client).copied().unwrap_or(0));
    promised.iter().map(missing).map(u64::from).sum()
}
