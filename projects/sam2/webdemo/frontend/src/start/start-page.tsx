// The first page: sessions, and where a new one comes from.
export function StartPage() {
  return <main data-testid="start-page" />;
}
