/** A number that is worth being read from afar. */
export function Figure({ number, name }: { number: number | string; name: string }) {
  return (
    <div class="figure">
      <strong>{number}</strong>
      <span>{name}</span>
    </div>
  );
}
