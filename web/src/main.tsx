import { render } from "preact";

import { DetailPage, ListPage, NotFound } from "./pages.tsx";
import "./style.css";

/** Which page an address is; links load anew, so that every address can be shared. */
function page() {
  const path = window.location.pathname.replace(/\/+$/, "");
  if (path === "") return <ListPage />;
  const match = /^\/competitions\/([0-9a-f-]{36})$/.exec(path);
  return match?.[1] ? <DetailPage id={match[1]} /> : <NotFound />;
}

const root = document.getElementById("app");
if (root) {
  root.replaceChildren();
  render(page(), root);
}
