import { Component, createElement, type FunctionComponent } from "preact";

/** A component that is drawn anew only if one of its properties changed. */
export function memo<P extends object>(inner: FunctionComponent<P>): FunctionComponent<P> {
  class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      return (Object.keys(next) as (keyof P)[]).some((name) => next[name] !== this.props[name]);
    }

    override render() {
      return createElement(inner, this.props as P);
    }
  }
  return (props) => createElement(Memo, props as P);
}
