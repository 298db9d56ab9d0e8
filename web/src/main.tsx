import { render, type FunctionComponent } from "preact";
import { useEffect, useState } from "preact/hooks";

import { CompetitionPage } from "./CompetitionPage.tsx";
import { Layout } from "./Layout.tsx";
import { ListPage } from "./ListPage.tsx";
import { useAddress } from "./router.tsx";
import { GROUPS, type Group } from "./states.ts";
import "./style.css";

function App() {
  const [path = "", query = ""] = useAddress().split("?");
  if (path === "") {
    const show = new URLSearchParams(query).get("show") ?? "all";
    const group = Object.hasOwn(GROUPS, show) ? (show as Group) : "all";
    return <ListPage key={group} group={group} />;
  }
  if (path === "/admin") return <Admin />;
  const id = /^\/competitions\/([0-9A-Za-z-]+)$/.exec(path)?.[1];
  if (id) return <CompetitionPage key={id} id={id} />;
  return (
    <Layout title="There is nothing here">
      <p>
        <a href="/">All competitions</a>
      </p>
    </Layout>
  );
}

/** Loaded when it is asked for: it brings signatures along, which nobody else needs. */
function Admin() {
  const [page, setPage] = useState<{ Page: FunctionComponent } | null>(null);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    import("./admin/AdminPage.tsx").then(
      ({ AdminPage }) => setPage({ Page: AdminPage }),
      () => setFailed(true),
    );
  }, []);
  if (page) return <page.Page />;
  return (
    <Layout title="Administration">
      <p class="note">{failed ? "This part of the app could not be loaded; load the page anew." : "Loading…"}</p>
    </Layout>
  );
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
}
