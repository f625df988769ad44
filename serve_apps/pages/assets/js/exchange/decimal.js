// Decimal numbers without binary floats: whole numbers of 10^-8, as the server counts.
const UNIT = 100000000n;
const PLAIN = /^\d{1,18}(\.\d{0,8})?$|^\.\d{1,8}$/;

// "64210.5" as units of 10^-8; null for what is no number.
export function units(text) {
  const plain = text.trim().replace(/[\s,\u00a0\u2009\u202f']/g, "");
  if (!PLAIN.test(plain)) return null;
  const [whole, fraction = ""] = plain.split(".");
  return BigInt(whole || "0") * UNIT + BigInt(fraction.padEnd(8, "0"));
}

export function decimalsOf(step) {
  let count = 8;
  let rest = BigInt(step);
  while (count && rest % 10n === 0n) {
    rest /= 10n;
    count -= 1;
  }
  return count;
}

// Without separators, for fields.
export function plain(amount, decimals) {
  const whole = amount / UNIT;
  const fraction = (amount % UNIT).toString().padStart(8, "0").slice(0, decimals);
  return decimals ? `${whole}.${fraction}` : `${whole}`;
}

// With separators, for people.
export function shown(amount, decimals) {
  const [whole, fraction] = plain(amount, decimals).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

// Without zeros at the end, but with at least so many decimals.
export function trimmed(amount, least = 0) {
  let decimals = 8;
  let rest = amount;
  while (decimals > least && rest % 10n === 0n) {
    rest /= 10n;
    decimals -= 1;
  }
  return shown(amount, decimals);
}

export function compact(amount) {
  const whole = amount / UNIT;
  for (const [size, mark] of [[10n ** 9n, "B"], [10n ** 6n, "M"], [10n ** 3n, "K"]]) {
    if (whole >= size) {
      const hundredths = ((whole * 100n) / size) % 100n;
      return `${whole / size}.${hundredths.toString().padStart(2, "0")}\u202f${mark}`;
    }
  }
  return trimmed(amount - (amount % 1000000n));
}

// By how much one differs from the other, in per cent with a sign.
export function change(last, first) {
  if (!first) return "0.00 %";
  const difference = last > first ? last - first : first - last;
  const hundredths = (difference * 10000n + first / 2n) / first;
  const sign = last > first ? "+" : last < first ? "\u2212" : "";
  const cents = (hundredths % 100n).toString().padStart(2, "0");
  return `${sign}${hundredths / 100n}.${cents} %`;
}

export function direction(last, first) {
  return last > first ? "up" : last < first ? "down" : "flat";
}
