// The PM2 configuration of the deployment guide, step 5.1, word for word.
module.exports = {
  apps: [
    {
      name: "canvas-ws",
      script: "./server/websocket-server.ts",
      interpreter: "node",
      interpreter_args: "--import tsx",
      instances: 1,
      exec_mode: "fork",
      autorestart: true,
      watch: false,
      max_memory_restart: "1G",
      env: {
        NODE_ENV: "production",
        WS_PORT: 3001,
        LOG_LEVEL: "info",
      },
      error_file: "./logs/ws-error.log",
      out_file: "./logs/ws-out.log",
      log_date_format: "YYYY-MM-DD HH:mm:ss Z",
      merge_logs: true,
      time: true,
    },
  ],
}
