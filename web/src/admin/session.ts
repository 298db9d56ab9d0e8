import {
  ApiError,
  CoordinatorClient,
  bearerAuthorization,
  nostrAuthorization,
  type Competition,
  type CompetitionTermsInput,
  type GetBalanceResponse,
  type InspectCompetitionResponse,
  type NostrSigner,
} from "../../../clients/typescript/src/index.ts";
import { Observable } from "../store.ts";

/** An admin at work: what it signed in with, and what it sees beyond what everybody does. */
export class AdminSession extends Observable {
  /** Who is signed in, empty if nobody is. */
  npub = "";
  balance: GetBalanceResponse | null = null;
  #client: CoordinatorClient | null = null;

  get signedIn(): boolean {
    return this.npub !== "";
  }

  /**
   * Opens a session, which reads; what changes something is signed each time. Throws an Error for people if the
   * key is not an admin's.
   */
  async signIn(signer: NostrSigner): Promise<void> {
    const baseUrl = window.location.origin;
    const sign = nostrAuthorization(signer);
    const { user, session_token } = await new CoordinatorClient({ baseUrl, authorize: sign }).user.login();
    const read = bearerAuthorization(session_token);
    const client = new CoordinatorClient({
      baseUrl,
      authorize: (request) => {
        // Ending a session is the token's business, not the key's.
        const byToken = request.method === "GET" || request.url.endsWith("/users/logout");
        return byToken ? read(request) : sign(request);
      },
    });
    if (!user?.is_admin) {
      await client.user.logout();
      throw new Error(`${user?.npub ?? "This key"} is not an admin of this coordinator.`);
    }
    this.#client = client;
    this.npub = user.npub;
    this.changed();
  }

  /** Forgets the key and ends the session. */
  async signOut(): Promise<void> {
    const client = this.#client;
    this.#forget();
    await client?.user.logout();
  }

  async readBalance(): Promise<void> {
    this.balance = await this.#call((client) => client.wallet.getBalance());
    this.changed();
  }

  inspect(id: string): Promise<InspectCompetitionResponse> {
    return this.#call((client) => client.competition.inspectCompetition({ competition_id: id }));
  }

  /** The same key with the same terms creates one competition, however often it is called. */
  create(terms: CompetitionTermsInput, idempotencyKey: string): Promise<Competition> {
    return this.#call((client) => client.competition.createCompetition({ terms }, { idempotencyKey }));
  }

  cancel(id: string, reason: string): Promise<Competition> {
    return this.#call((client) => client.competition.cancelCompetition({ competition_id: id, reason }));
  }

  pause(id: string, paused: boolean): Promise<Competition> {
    return this.#call((client) => client.competition.pauseCompetition({ competition_id: id, paused }));
  }

  retry(id: string): Promise<Competition> {
    return this.#call((client) => client.competition.retryCompetition({ competition_id: id }));
  }

  async #call<T>(task: (client: CoordinatorClient) => Promise<T>): Promise<T> {
    if (!this.#client) throw new Error("Sign in first.");
    try {
      return await task(this.#client);
    } catch (error) {
      // The session has ended: there is nothing to be seen any more without signing in anew.
      if (error instanceof ApiError && error.status === 401) this.#forget();
      throw error;
    }
  }

  #forget(): void {
    this.#client = null;
    this.npub = "";
    this.balance = null;
    this.changed();
  }
}
