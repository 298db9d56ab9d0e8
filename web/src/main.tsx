import { render } from "preact";

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

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(<App />, root);
}
