import { useEffect, useState } from "preact/hooks";
import type { Piece } from "../text/colour.ts";

/** Text that is still being written is coloured once it stands still for this long. */
const STILL_MS = 120;

/** Code with its words in colour, once what knows the languages has been loaded; until then, and without it, plain. */
export function Coloured({ text, language }: { text: string; language: string }) {
  const [found, setFound] = useState<{ text: string; pieces: Piece[] }>();
  useEffect(() => {
    if (!language) return;
    let wanted = true;
    const timer = setTimeout(async () => {
      const colour = await import("../text/colour.ts").catch(() => undefined);
      const pieces = colour?.coloured(text, language);
      if (wanted && pieces) setFound({ text, pieces });
    }, STILL_MS);
    return () => {
      wanted = false;
      clearTimeout(timer);
    };
  }, [text, language]);
  if (found?.text !== text) return <>{text}</>;
  return (
    <>
      {found.pieces.map((piece, index) =>
        piece.kind ? (
          <span key={index} class={`code-${piece.kind}`}>
            {piece.text}
          </span>
        ) : (
          piece.text
        ),
      )}
    </>
  );
}
