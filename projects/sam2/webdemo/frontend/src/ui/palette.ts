// The colours of objects. They were chosen by computation: every colour has a contrast of at
// least 3:1 against the panels of the light and of the dark theme, every pair is at least
// 11 CIEDE2000 apart, and the first ones are the furthest apart (20 among the first ten).
// The server gives new objects the same colours (`OBJECT_COLORS` in document.py).
export const OBJECT_COLORS: readonly string[] = [
  '#1f77b4', '#989800', '#ff0050', '#b000ff', '#007858', '#985800', '#a88898', '#38a0a8',
  '#686830', '#ff10b0', '#00a800', '#a04868', '#889880', '#e87018', '#606098', '#307078',
  '#c08800', '#207800', '#9888c8', '#886058', '#d00018', '#6890f0', '#988860', '#b08878',
  '#e07060', '#688898', '#ff3000', '#709048', '#9868ff', '#806848', '#b868a8', '#009858',
  '#907800', '#607860', '#b05838', '#f06088', '#0098d0', '#f000ff', '#3068ff', '#58a088',
  '#805880', '#807890', '#e01870', '#9048b0', '#b06870', '#b83848', '#c00888', '#b07848',
  '#108880', '#6848e8',
];
