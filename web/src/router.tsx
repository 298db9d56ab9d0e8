import { useEffect, useState } from "preact/hooks";

/** The address, without the parts that name no page. */
function here(): string {
  return window.location.pathname.replace(/\/+$/, "") + window.location.search;
}

/** The current address; links within the app change it without loading anew. */
export function useAddress(): string {
  const [address, setAddress] = useState(here);
  useEffect(() => {
    const moved = (): void => setAddress(here());
    const clicked = (event: MouseEvent): void => {
      if (event.defaultPrevented || event.button !== 0) return;
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      const link = event.target instanceof Element ? event.target.closest("a") : null;
      if (!link || link.target || link.hasAttribute("download") || link.origin !== window.location.origin) return;
      // The gateway's own pages and the skip link are the browser's.
      if (link.pathname.startsWith("/api/") || link.hash) return;
      event.preventDefault();
      const before = here();
      window.history.pushState(null, "", link.href);
      setAddress(here());
      if (before.split("?")[0] === here().split("?")[0]) return;
      window.scrollTo(0, 0);
      // Who reads by ear starts at the new page's heading, not where the link was.
      requestAnimationFrame(() => document.querySelector<HTMLElement>("h1")?.focus());
    };
    window.addEventListener("popstate", moved);
    document.addEventListener("click", clicked);
    return () => {
      window.removeEventListener("popstate", moved);
      document.removeEventListener("click", clicked);
    };
  }, []);
  return address;
}
