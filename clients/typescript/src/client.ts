// The client: paths, parameters, bodies and answers are typed by the contract.
import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./api.js";

export type Item = components["schemas"]["Item"];
export type Problem = components["schemas"]["Problem"];

export function connect(baseUrl: string, accessToken?: string): Client<paths> {
  const headers = accessToken === undefined ? {} : { Authorization: `Bearer ${accessToken}` };
  return createClient<paths>({ baseUrl, headers });
}

export async function signIn(baseUrl: string, login: components["schemas"]["Login"]): Promise<Client<paths>> {
  const { data, error } = await connect(baseUrl).POST("/api/v1/auth/login", { body: login });
  if (error !== undefined) throw new Error(`${error.code}: ${error.detail}`);
  return connect(baseUrl, data.accessToken);
}
