//! nginx, configured for long gRPC streams.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::Command;

use super::{Task, pinned};

pub fn program() -> PathBuf {
    "/usr/sbin/nginx".into()
}

pub fn command(task: &Task<'_>) -> io::Result<Command> {
    let file = task.directory.join("nginx.conf");
    fs::write(&file, config(task))?;
    let mut command = pinned(&program(), task.workers);
    command.arg("-c").arg(&file).arg("-p").arg(&task.directory).args(["-e", "stderr"]);
    Ok(command)
}

fn config(task: &Task<'_>) -> String {
    let (listen, workers) = (task.listen, task.workers);
    // nginx opens a connection of its own for each stream: two connections and as many descriptors a stream.
    let (connections, descriptors) = (task.streams * 2 + 1_000, task.streams * 2 + 2_000);
    let streams = task.streams.max(1_024);
    let directory = task.directory.display();
    let servers: String = task.sinks.iter().map(|sink| format!("        server {sink};\n")).collect();
    let (mut socket, mut certificate, mut scheme, mut upstream) = (String::new(), String::new(), "grpc", String::new());
    if let Some(certificates) = task.tls {
        socket = " ssl".to_owned();
        let (chain, key) = (certificates.chain.display(), certificates.key.display());
        certificate =
            format!("ssl_certificate {chain};\n        ssl_certificate_key {key};\n        ssl_protocols TLSv1.3;");
        scheme = "grpcs";
        upstream = format!(
            "grpc_ssl_protocols TLSv1.3;\n            grpc_ssl_name localhost;\n            grpc_ssl_verify on;\n            \
             grpc_ssl_trusted_certificate {};",
            certificates.authority.display()
        );
    }
    format!(
        "\
daemon off;
worker_processes {workers};
worker_rlimit_nofile {descriptors};
error_log stderr error;
pid {directory}/pid;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    # Endless streams: no size and no time-out may end them.
    client_max_body_size 0;
    client_body_timeout 1h;
    client_header_timeout 1h;
    send_timeout 1h;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    http2_max_concurrent_streams {streams};
    # Read by two big buffers, not by the 16 KiB pieces of an ordinary request body.
    client_body_buffer_size 256k;
    http2_body_preread_size 64k;
    upstream collectors {{
        # One turn for all workers.
        zone collectors 256k;
{servers}        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen {listen} http2{socket} backlog=4096;
        {certificate}
        location / {{
            grpc_pass {scheme}://collectors;
            grpc_read_timeout 1h;
            grpc_send_timeout 1h;
            grpc_buffer_size 64k;
            {upstream}
        }}
    }}
}}
"
    )
}
