/** Makes what chooses the form of a number in a language: that of its category, or the last. */
export const plurals = (language: string) => {
  const rules = new Intl.PluralRules(language);
  return (n: number, forms: Partial<Record<Intl.LDMLPluralRule, string>> & { other: string }) => forms[rules.select(n)] ?? forms.other;
};
