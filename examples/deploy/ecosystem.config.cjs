// PM2 configuration of the server. Start it from the directory of the app: paths are taken from there.
//
//   pm2 start config/ecosystem.config.cjs --env production
//
// Secrets (DATABASE_URL, BETTER_AUTH_SECRET) belong into .env beside it: the server reads that itself, and what is
// set here wins over it.
const shared = {
  WS_PORT: 3001,
  LOG_LEVEL: "info",
};

module.exports = {
  apps: [
    {
      name: "canvas-ws",
      script: "./bin/fidibus",
      // A native program, and one of it: cluster mode is for Node, and users of one document have to meet in one
      // process, which serves tens of thousands of sockets.
      interpreter: "none",
      exec_mode: "fork",
      instances: 1,
      autorestart: true,
      watch: false,
      max_memory_restart: "1G",
      // "online" means that it listens.
      wait_ready: true,
      listen_timeout: 10000,
      // Above WS_SHUTDOWN_DEADLINE_MS (8000): PM2's own 1600 ms are short for a slow database.
      kill_timeout: 10000,
      env: { NODE_ENV: "development", ...shared },
      env_production: { NODE_ENV: "production", ...shared },
      error_file: "./logs/ws-error.log",
      out_file: "./logs/ws-out.log",
      // Not `time: true`: that would put another format, without the zone, in its place.
      log_date_format: "YYYY-MM-DD HH:mm:ss Z",
      merge_logs: true,
    },
  ],
};
