//! A Redis server in a container of its own.

use std::time::Duration;

use cli::stack::free_port;
use cli::stack::redis::RedisOptions;
use testcontainers::bollard::query_parameters::KillContainerOptionsBuilder;
use testcontainers::core::client::docker_client_instance;
use testcontainers::core::{IntoContainerPort as _, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, GenericImage, ImageExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::wait_until;

/// The port inside the container.
const REDIS_PORT: u16 = 6379;

/// How long a container may take until its server answers.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Seconds that a server has to stop in.
const STOP_S: i32 = 10;

/// Marks the harness's containers, so that those of killed test runs can be found and removed.
const LABEL: &str = "millrace-test";

/// A container, removed when dropped.
#[derive(Debug)]
pub(super) struct Container {
    container: ContainerAsync<GenericImage>,
    host: String,
    port: u16,
}

/// The image's name and tag.
fn image() -> (String, String) {
    let image = std::env::var("MILLRACE_TEST_REDIS_IMAGE");
    let image = image.unwrap_or_else(|_| "millrace-test-redis:local".to_owned());
    match image.rsplit_once(':') {
        // A colon before a slash belongs to a registry's port.
        Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
        _ => (image, "latest".to_owned()),
    }
}

/// `Ok` where a Docker engine answers and has the image.
pub(super) async fn is_available() -> Result<(), String> {
    let engine = docker_client_instance().await.map_err(|error| format!("no Docker engine: {error}"))?;
    engine.ping().await.map_err(|error| format!("no Docker engine answers: {error}"))?;
    let (name, tag) = image();
    match engine.inspect_image(&format!("{name}:{tag}")).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the Docker engine has no image {name}:{tag}: {error}")),
    }
}

impl Container {
    pub(super) async fn start(options: &RedisOptions) -> Container {
        if let Err(reason) = is_available().await {
            panic!(
                "no Redis container for this test: {reason}; tests/docker-tier.sh starts an engine and makes the \
                 image, MILLRACE_TEST_REDIS=process does without"
            );
        }
        let (name, tag) = image();
        // A port chosen here, not by the engine, which would choose another one at each restart.
        let port = free_port().expect("loopback has a free port");
        let fixed = ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"];
        let command = fixed.iter().map(|&arg| arg.to_owned()).chain(options.args());
        let container = GenericImage::new(name, tag)
            .with_wait_for(WaitFor::Nothing)
            .with_cmd(command)
            .with_mapped_port(port, REDIS_PORT.tcp())
            .with_label(LABEL, "redis")
            .start()
            .await
            .expect("the engine starts a container of an image that it has");
        let host = container.get_host().await.expect("the engine's host is known").to_string();
        let container = Container { container, host, port };
        container.wait_until_it_answers().await;
        container
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub(super) async fn pause(&self) {
        self.container.pause().await.expect("a running container can be paused");
    }

    pub(super) async fn resume(&self) {
        self.container.unpause().await.expect("a paused container can go on");
    }

    /// SIGKILL, which the engine's `stop` would only send after a SIGTERM.
    pub(super) async fn kill(&self) {
        let engine = docker_client_instance().await.expect("the engine that runs the container");
        let how = KillContainerOptionsBuilder::new().signal("KILL").build();
        engine
            .kill_container(self.container.id(), Some(how))
            .await
            .expect("a running container can be killed");
        wait_until(START_DEADLINE, "the killed container has ended", || async {
            self.container.is_running().await.is_ok_and(|runs| !runs)
        })
        .await;
    }

    pub(super) async fn restart(&self) {
        self.container.stop_with_timeout(Some(STOP_S)).await.expect("a container can be stopped");
        self.container.start().await.expect("a stopped container starts again");
        self.wait_until_it_answers().await;
    }

    async fn wait_until_it_answers(&self) {
        let address = self.address();
        wait_until(START_DEADLINE, "the server in the container answers PING", || {
            let address = address.clone();
            async move { pings(&address).await.unwrap_or(false) }
        })
        .await;
    }
}

/// True once the server has loaded its data and takes commands.
async fn pings(address: &str) -> std::io::Result<bool> {
    let mut server = TcpStream::connect(address).await?;
    server.write_all(b"PING\r\n").await?;
    let mut answer = [0u8; 5];
    server.read_exact(&mut answer).await?;
    Ok(&answer == b"+PONG")
}
