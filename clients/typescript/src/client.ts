// The client: paths, parameters, bodies and answers are typed by the contract.
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./api.js";

export type Item = components["schemas"]["Item"];
export type Problem = components["schemas"]["Problem"];

// Lists also come as NDJSON and CSV; this client asks for JSON, and for problems where something is wrong.
type Media = "application/json" | "application/problem+json";
export type Erp = Client<paths, Media>;

export function connect(baseUrl: string, accessToken?: string): Erp {
  const headers = accessToken === undefined ? {} : { Authorization: `Bearer ${accessToken}` };
  return createClient<paths, Media>({ baseUrl, headers });
}

export async function signIn(baseUrl: string, login: components["schemas"]["Login"]): Promise<Erp> {
  const { data, error } = await connect(baseUrl).POST("/api/v1/auth/login", { body: login });
  if (error !== undefined) throw new Error(`${error.code}: ${error.detail}`);
  if ("mfaToken" in data) throw new Error(`${login.email} has a second factor: ${data.factors.join(", ")}`);
  return connect(baseUrl, data.accessToken);
}
