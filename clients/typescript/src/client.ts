import { Transport, type ClientOptions } from "./call.ts";
import { Services } from "./generated.ts";
import { EventStream, type WatchOptions } from "./stream.ts";

/** The coordinator's API: `client.competition.listCompetitions({})`, `client.watch({ competitionId })`. */
export class CoordinatorClient extends Services {
  readonly #transport: Transport;

  constructor(options: ClientOptions = {}) {
    const transport = new Transport(options);
    super(transport.call);
    this.#transport = transport;
  }

  /** Events as they happen, see {@link EventStream}. */
  watch(options: WatchOptions = {}): EventStream {
    return new EventStream(this.#transport, options);
  }
}
