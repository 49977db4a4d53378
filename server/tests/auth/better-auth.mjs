// A real Better Auth behind HTTP: either version, on Drizzle with the app's snake_case tables or on its built-in adapter.
import { createServer } from "node:http";
import { drizzle } from "drizzle-orm/node-postgres";
import { boolean, pgTable, text, timestamp } from "drizzle-orm/pg-core";

const versions = {
  "1.4.18": {
    core: () => import("better-auth-14"), plugins: () => import("better-auth-14/plugins"), node: () => import("better-auth-14/node"),
    drizzle: () => import("better-auth-14/adapters/drizzle"), migrations: () => import("better-auth-14/db"),
  },
  "1.7.25": {
    core: () => import("better-auth-17"), plugins: () => import("better-auth-17/plugins"), node: () => import("better-auth-17/node"),
    drizzle: () => import("better-auth-17/adapters/drizzle"), migrations: () => import("better-auth-17/db/migration"),
  },
};

export const installations = Object.keys(versions).flatMap((version) => ["drizzle", "built-in"].map((adapter) => ({ version, adapter })));

export const versionNames = Object.keys(versions);

export const secret = "0123456789abcdef0123456789abcdef-Secr3t/+";

// As the app's own schema has them: timestamps without a time zone.
const at = (name) => timestamp(name);
const schema = {
  user: pgTable("user", {
    id: text("id").primaryKey(), name: text("name").notNull(), email: text("email").notNull().unique(),
    emailVerified: boolean("email_verified").notNull(), image: text("image"), createdAt: at("created_at").notNull(),
    updatedAt: at("updated_at").notNull(), role: text("role"), banned: boolean("banned"), banReason: text("ban_reason"), banExpires: at("ban_expires"),
  }),
  session: pgTable("session", {
    id: text("id").primaryKey(), expiresAt: at("expires_at").notNull(), token: text("token").notNull().unique(),
    createdAt: at("created_at").notNull(), updatedAt: at("updated_at").notNull(), ipAddress: text("ip_address"),
    userAgent: text("user_agent"), userId: text("user_id").notNull(), impersonatedBy: text("impersonated_by"),
  }),
  account: pgTable("account", {
    id: text("id").primaryKey(), accountId: text("account_id").notNull(), providerId: text("provider_id").notNull(),
    userId: text("user_id").notNull(), accessToken: text("access_token"), refreshToken: text("refresh_token"), idToken: text("id_token"),
    accessTokenExpiresAt: at("access_token_expires_at"), refreshTokenExpiresAt: at("refresh_token_expires_at"), scope: text("scope"),
    password: text("password"), createdAt: at("created_at").notNull(), updatedAt: at("updated_at").notNull(),
  }),
  verification: pgTable("verification", {
    id: text("id").primaryKey(), identifier: text("identifier").notNull(), value: text("value").notNull(), expiresAt: at("expires_at").notNull(),
    createdAt: at("created_at"), updatedAt: at("updated_at"),
  }),
  jwks: pgTable("jwks", {
    id: text("id").primaryKey(), publicKey: text("public_key").notNull(), privateKey: text("private_key").notNull(),
    createdAt: at("created_at").notNull(), expiresAt: at("expires_at"), alg: text("alg"), crv: text("crv"),
  }),
};

const column = ({ name, primary, notNull, isUnique }, sqlType) =>
  `"${name}" ${sqlType}${primary ? " primary key" : ""}${notNull && !primary ? " not null" : ""}${isUnique ? " unique" : ""}`;

async function createTables(database) {
  const columns = Symbol.for("drizzle:Columns");
  for (const [name, table] of Object.entries(schema)) {
    const list = Object.values(table[columns]).map((entry) => column(entry, entry.getSQLType()));
    await database.query(`create table "${name}" (${list.join(", ")})`);
  }
}

/** Starts it on a database, whose `pool` is a pool of pg or, for the built-in adapter, a file of node:sqlite; `baseURL` is what
 * the app would call itself; `more` are further options. */
export async function startBetterAuth({ version, adapter }, database, baseURL = "https://draw.example", more = {}) {
  const parts = versions[version];
  const [{ betterAuth }, { admin, bearer, jwt }, { toNodeHandler }] = await Promise.all([parts.core(), parts.plugins(), parts.node()]);
  const options = {
    secret, baseURL,
    emailAndPassword: { enabled: true },
    plugins: [admin({ defaultRole: "editor" }), bearer(), jwt()],
    logger: { level: "error" },
    telemetry: { enabled: false },
    rateLimit: { enabled: false },
    ...more,
  };
  if (adapter === "drizzle") {
    await createTables(database);
    const { drizzleAdapter } = await parts.drizzle();
    options.database = drizzleAdapter(drizzle(database.pool, { schema }), { provider: "pg", schema });
  } else {
    options.database = database.pool;
    const { getMigrations } = await parts.migrations();
    await (await getMigrations(options)).runMigrations();
  }
  const auth = betterAuth(options);
  const handler = toNodeHandler(auth);
  const server = createServer((request, response) => {
    // What the proxy in front of the app does.
    request.headers["x-forwarded-proto"] = "https";
    handler(request, response);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const url = `http://127.0.0.1:${server.address().port}/api/auth`;
  const call = async (path, { body, headers = {} } = {}) => {
    const response = await fetch(url + path, {
      method: body ? "POST" : "GET",
      headers: { origin: baseURL, ...(body && { "content-type": "application/json" }), ...headers },
      body: body && JSON.stringify(body),
    });
    const answer = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${answer}`);
    return { answer: answer ? JSON.parse(answer) : undefined, headers: response.headers };
  };
  let count = 0;
  return {
    url, baseURL, call,
    /** Signs a new user up: `{ id, token, cookie, signed }`. */
    async signUp() {
      const email = `user-${version.replaceAll(".", "-")}-${adapter}-${++count}@example.com`;
      const { answer, headers } = await call("/sign-up/email", { body: { email, password: "a long password", name: "Ann" } });
      const cookie = headers.getSetCookie().map((line) => line.split(";")[0]).find((pair) => pair.includes("session_token="));
      return { id: answer.user.id, token: answer.token, cookie, signed: cookie.slice(cookie.indexOf("=") + 1) };
    },
    signOut: ({ cookie }) => call("/sign-out", { body: {}, headers: { cookie } }),
    async jwt({ cookie }) {
      return (await call("/token", { headers: { cookie } })).answer.token;
    },
    stop: () => new Promise((done) => {
      server.closeAllConnections();
      server.close(done);
    }),
  };
}
