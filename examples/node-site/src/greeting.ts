export function greeting(whom: string): string {
  return `hello from ${whom}`;
}
