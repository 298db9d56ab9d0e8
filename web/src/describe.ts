import type { CompetitionEvent, CompetitionState } from "../../clients/typescript/src/index.ts";
import { brief, count, dateTime, sats, shortId } from "./format.ts";
import { number, numbers, text, texts } from "./reduce.ts";
import { STATE_TEXT, stateText } from "./states.ts";

/** What happened, for a person; a kind that is not known here is told by its data. */
export function describe(event: CompetitionEvent): string {
  const data = event.data ?? {};
  const id = (name: string): string => shortId(text(data[name]));
  const amount = number(data["amount_sats"]);
  const amountText = amount === null ? "" : ` of ${sats(amount)}`;
  const deadline = number(data["deadline_at"]);
  const until = deadline ? `, until ${dateTime(new Date(deadline * 1000).toISOString())}` : "";
  const reason = text(data["reason"]);
  const role = text(data["role"]);
  switch (event.kind) {
    case "competition.created":
      return `“${text(data["name"])}” was announced`;
    case "competition.state_changed":
      return `${stateLabel(text(data["to"]))}: ${stateText(text(data["to"]) as CompetitionState).meaning}`;
    case "competition.closed":
      return `Closed with ${count(number(data["entries"]) ?? 0)} entries`;
    case "competition.paused":
      return "The sale of tickets is paused";
    case "competition.resumed":
      return "The sale of tickets goes on";
    case "competition.cancelled":
      return `Cancelled: ${reason}`;
    case "competition.failed":
      return `Failed: ${reason}`;
    case "competition.money_returned":
      return "All money was returned";
    case "competition.at_rest":
      return "The last transaction is confirmed";
    case "ticket.reserved":
      return `Ticket ${id("ticket_id")} is reserved`;
    case "ticket.paid":
      return `The payment${amountText} for ticket ${id("ticket_id")} is held`;
    case "ticket.expired":
      return `Ticket ${id("ticket_id")} was not paid in time`;
    case "ticket.cancelled":
      return `Ticket ${id("ticket_id")} was cancelled and its payment returned`;
    case "ticket.settled":
      return `The payment${amountText} for ticket ${id("ticket_id")} is settled`;
    case "ticket.payment_lost":
      return `The payment${amountText} for ticket ${id("ticket_id")} ran out; the coordinator carries it`;
    case "entry.submitted":
      return `Entry ${id("entry_id")} came in`;
    case "entry.updated":
      return `Entry ${id("entry_id")} was changed`;
    case "entry.escrow_release_signed":
      return `Entry ${id("entry_id")} signed its escrow's release`;
    case "entry.funding_signed":
      return `Entry ${id("entry_id")} signed the funding`;
    case "escrow.planned":
      return `Players can sign the release of their escrow${until}`;
    case "oracle.event_created":
      return "The oracle's announcement was recomputed and is right";
    case "oracle.attested":
      return `The oracle attested: ${outcomeText(text(data["outcome"]), numbers(data["winners"]))}`;
    case "contract.created":
      return `The contract stands, over ${sats(number(data["funding_value_sats"]) ?? 0)}`;
    case "contract.signed":
      return `All ${count(number(data["signatures"]) ?? 0)} signatures are verified; players can sign the funding${until}`;
    case "keymeld.keygen_progress":
      return `Key generation: ${progress(data)}`;
    case "keymeld.signing_progress":
      return `Signing: ${progress(data)}`;
    case "keymeld.keygen_completed":
      return "All aggregate keys are right";
    case "transaction.broadcast":
      return `The ${role} transaction is broadcast`;
    case "transaction.confirmed":
      return `The ${role} transaction is confirmed`;
    case "transaction.unconfirmed":
      return `The ${role} transaction is in no block any more`;
    case "payout.requested":
      return `Entry ${id("entry_id")} asked for its prize${amountText}`;
    case "payout.in_flight":
      return `The prize of entry ${id("entry_id")} is on its way`;
    case "payout.paid":
      return `The prize${amountText} of entry ${id("entry_id")} is paid`;
    case "payout.failed":
      return `The payout to entry ${id("entry_id")} failed: ${reason}`;
    case "payout.key_received":
      return `Entry ${id("entry_id")} handed over its key`;
    default:
      return (
        Object.entries(data)
          .map(([name, value]) => brief(name, value))
          .join(" · ") || event.kind
      );
  }
}

/** An outcome in words, e.g. who won in order of place. */
export function outcomeText(outcome: string, winners: readonly number[]): string {
  if (outcome === "exp") return "expired, equal shares for all";
  if (winners.length === 0) return outcome;
  const names = winners.map((winner) => `player ${winner}`).join(", then ");
  return `${names} won`;
}

function progress(data: Record<string, unknown>): string {
  const missing = texts(data["missing"]);
  const waiting = missing.length > 0 ? `, waiting for ${missing.map(shortId).join(", ")}` : "";
  return `${count(number(data["done"]) ?? 0)} of ${count(number(data["total"]) ?? 0)} done${waiting}`;
}

function stateLabel(state: string): string {
  return STATE_TEXT[state as CompetitionState]?.label ?? state;
}
