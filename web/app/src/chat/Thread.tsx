/** The open conversation. Its end stays in view while it grows, until the reader scrolls up. */

import { useEffect, useRef } from "preact/hooks";
import { Mark } from "../ui/Icon";
import { failures, running } from "./asking";
import { composed, focusComposer } from "./composing";
import { conversation } from "./keeping";
import { TurnView } from "./Turn";

const STARTERS = ["A cat is", "How do I make tea?", "What is 3 plus 4?"];

export function Thread() {
  const thread = useRef<HTMLElement>(null);
  const { id, turns } = conversation.value;
  useFollowing(thread, `${id} ${turns.length}`);
  return (
    <main id="thread" ref={thread} aria-label="Conversation" data-busy={running.value !== null}>
      {turns.length === 0 && <Welcome />}
      {turns.map((turn, index) => (
        <TurnView
          key={`${id} ${index}`}
          turn={turn}
          index={index}
          last={index === turns.length - 1}
          failure={failures.value.get(index)}
        />
      ))}
    </main>
  );
}

function Welcome() {
  const begin = (text: string) => {
    composed.value = text;
    focusComposer();
  };
  return (
    <section id="welcome">
      <Mark />
      <h2>Your votes train the next version.</h2>
      <p>Ask something and mark the answer, or compare two answers without knowing who wrote them.</p>
      <div class="starters" role="group" aria-label="Try one of these">
        {STARTERS.map((text) => (
          <button key={text} type="button" onClick={() => begin(text)}>
            {text}
          </button>
        ))}
      </div>
    </section>
  );
}

/** @param asked changes with each question, which goes back to the end wherever the reader was */
function useFollowing(thread: { current: HTMLElement | null }, asked: string): void {
  const state = useRef({ following: true, scrolledTo: 0 });
  useEffect(() => {
    state.current.following = true;
  }, [asked]);
  useEffect(() => {
    const now = state.current;
    const onScroll = () => {
      // Only a way up ends it: this event may come after the page has grown once more below where it was scrolled to.
      const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 80;
      now.following = atEnd || (now.following && scrollY >= now.scrolledTo);
      now.scrolledTo = scrollY;
    };
    const observer = new ResizeObserver(() => {
      if (now.following) scrollTo({ top: document.documentElement.scrollHeight });
    });
    document.addEventListener("scroll", onScroll);
    if (thread.current) observer.observe(thread.current);
    return () => {
      document.removeEventListener("scroll", onScroll);
      observer.disconnect();
    };
  }, []);
}
